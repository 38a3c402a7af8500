"""All interventions: this package's, one file and one line here each, and those of installed packages."""

from functools import cache

from ct_pipeline.interventions.act import ACT
from ct_pipeline.interventions.attct import ATTCT
from ct_pipeline.interventions.bct import BCT
from ct_pipeline.interventions.diverse_decoding import DIVERSE_DECODING
from ct_pipeline.interventions.greedy_self_training import GREEDY_SELF_TRAINING
from ct_pipeline.interventions.intervention import FAMILIES, Intervention
from ct_pipeline.interventions.mlpct import MLPCT
from ct_pipeline.interventions.multi_view import MULTI_VIEW
from ct_pipeline.interventions.null import NULL
from ct_pipeline.interventions.rejection_sampling import REJECTION_SAMPLING
from ct_pipeline.interventions.self_confidence import SELF_CONFIDENCE
from ct_pipeline.interventions.self_refinement import SELF_REFINEMENT
from ct_pipeline.interventions.self_rewarding import SELF_REWARDING
from ct_pipeline.interventions.shuffled import SHUFFLED
from ct_pipeline.interventions.unchanged import UNCHANGED
from ct_pipeline.settings.plugins import installed
from ct_pipeline.settings.study import Study

GROUP = "ct_pipeline.interventions"
INTERVENTIONS: tuple[Intervention, ...] = (
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
    UNCHANGED,
)


@cache
def interventions() -> dict[str, Intervention]:
    """Name -> intervention; UserError where an installed package's cannot be used."""
    return {each.name: each for each in installed(GROUP, INTERVENTIONS, FAMILIES)}


def method_of(study: Study, entry: str) -> Intervention:
    """The intervention that an entry of a study's `methods` runs: the one it names, or that of its own name."""
    return method_named(study.methods[entry].method or entry)


def method_named(name: str) -> Intervention:
    """The intervention of a name; KeyError where there is none."""
    return interventions()[name]
