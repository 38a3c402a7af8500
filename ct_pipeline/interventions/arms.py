"""Which entries of a study are the arms of a method: θ_null and θ_Q1."""

from collections.abc import Iterable

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.intervention import LabelMethod, ModelChange
from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.settings.study import Study

NULL = "null"
UNINFORMED = "shuffled"


def null_of(study: Study, method: str) -> str | None:
    """The entry trained as `method` is, but on the organism's own samples at T = 1; None where the study has none.

    None, too, for a model that is made without training.
    """
    if isinstance(method_of(study, method), ModelChange):
        return None
    return _first(study, method, (entry for entry in study.methods if method_of(study, entry).name == NULL))


def one_of(study: Study, method: str) -> str | None:
    """The entry whose labels are one random candidate of the method's proposal, Q_1.

    For best of k an entry of the same draw with k = 1, or one that selects without information; for a filter the entry
    that keeps all of what it filters; for a method without selection it is that entry itself. None where the study has
    none, for a reranked set of unlike candidates, and for all that is not trained on labels.
    """
    labels_by = method_of(study, method)
    if not isinstance(labels_by, LabelMethod) or labels_by.selection == "rerank":
        return None
    selection = labels_by.selection
    if selection == "none" or _keeps_any(study, method):
        return method
    proposal = _proposal(study, method)
    fits = _unselected if selection == "filter" else _keeps_any
    same = [entry for entry in study.methods if fits(study, entry) and _proposal(study, entry) == proposal]
    if selection == "filter":
        return _first(study, method, same)
    # One candidate is one random candidate whatever the scores say: it comes before the uninformed choice of many.
    return _first(study, method, sorted(same, key=lambda entry: study.methods[entry].k != 1))


def _first(study: Study, method: str, entries: Iterable[str]) -> str | None:
    """The first of the entries that is trained as `method` is: arms differ in their labels alone."""
    training = study.training_of(method)
    return next((entry for entry in entries if study.training_of(entry) == training), None)


def _keeps_any(study: Study, entry: str) -> bool:
    """Whether best of k keeps a random candidate: k is 1, or the scores say nothing."""
    method = method_of(study, entry)
    return (
        isinstance(method, LabelMethod)
        and method.selection == "best_of_k"
        and (method.name == UNINFORMED or study.methods[entry].k == 1)
    )


def _unselected(study: Study, entry: str) -> bool:
    method = method_of(study, entry)
    return isinstance(method, LabelMethod) and method.selection == "none"


def _proposal(study: Study, entry: str) -> tuple[object, ...]:
    """What a candidate 0 is drawn from: all of the first draw but how many there are and whose they are."""
    draw: Draw = method_of(study, entry).draws(study.methods[entry], 1)[0]
    return (draw.prompts, draw.temperature, draw.top_p, draw.beams, draw.view, draw.draft)
