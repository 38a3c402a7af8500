"""All consistency methods; a new one is one file and one line here."""

from ct_pipeline.methods.bct import BCT
from ct_pipeline.methods.greedy_self_training import GREEDY_SELF_TRAINING
from ct_pipeline.methods.method import Method
from ct_pipeline.methods.null import NULL
from ct_pipeline.methods.self_confidence import SELF_CONFIDENCE
from ct_pipeline.methods.self_rewarding import SELF_REWARDING

METHODS: tuple[Method, ...] = (
    NULL,
    GREEDY_SELF_TRAINING,
    SELF_CONFIDENCE,
    SELF_REWARDING,
    BCT,
)


def method_named(name: str) -> Method:
    """The method of a name; KeyError where there is none."""
    return {method.name: method for method in METHODS}[name]
