"""All consistency methods; a new one is one file and one line here."""

from ct_pipeline.interventions.act import ACT
from ct_pipeline.interventions.attct import ATTCT
from ct_pipeline.interventions.bct import BCT
from ct_pipeline.interventions.diverse_decoding import DIVERSE_DECODING
from ct_pipeline.interventions.greedy_self_training import GREEDY_SELF_TRAINING
from ct_pipeline.interventions.method import Method
from ct_pipeline.interventions.mlpct import MLPCT
from ct_pipeline.interventions.multi_view import MULTI_VIEW
from ct_pipeline.interventions.null import NULL
from ct_pipeline.interventions.rejection_sampling import REJECTION_SAMPLING
from ct_pipeline.interventions.self_confidence import SELF_CONFIDENCE
from ct_pipeline.interventions.self_refinement import SELF_REFINEMENT
from ct_pipeline.interventions.self_rewarding import SELF_REWARDING
from ct_pipeline.interventions.shuffled import SHUFFLED
from ct_pipeline.settings.study import Study

METHODS: tuple[Method, ...] = (
    NULL,
    SHUFFLED,
    GREEDY_SELF_TRAINING,
    REJECTION_SAMPLING,
    SELF_CONFIDENCE,
    DIVERSE_DECODING,
    MULTI_VIEW,
    SELF_REFINEMENT,
    SELF_REWARDING,
    BCT,
    ACT,
    MLPCT,
    ATTCT,
)


def method_of(study: Study, entry: str) -> Method:
    """The method that an entry of a study's `methods` runs: the one it names, or that of its own name."""
    return method_named(study.methods[entry].method or entry)


def method_named(name: str) -> Method:
    """The method of a name; KeyError where there is none."""
    return {method.name: method for method in METHODS}[name]
