"""Which entries of a study are the arms of a method, θ_null and θ_Q1, and what they take its change apart into."""

from collections.abc import Iterable

from ct_pipeline.analysis.arms import Arms, arms
from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import evaluation, organism_evaluation
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find

NULL = "null"
UNINFORMED = "shuffled"
COLUMNS = ["prompt_id", "sample", "verdict"]


def null_of(study: Study, method: str) -> str | None:
    """The entry trained as `method` is, but on the organism's own samples at T = 1; None where the study has none."""
    return _first(study, method, (entry for entry in study.methods if method_of(study, entry).name == NULL))


def one_of(study: Study, method: str) -> str | None:
    """The entry whose labels are one random candidate of the method's proposal, Q_1.

    For best of k an entry of the same draw with k = 1, or one that selects without information; for a filter the entry
    that keeps all of what it filters; for a method without selection it is that entry itself. None where the study has
    none, for a reranked set of unlike candidates, and for regularizers.
    """
    selection = method_of(study, method).selection
    if method_of(study, method).objective != "labels" or selection == "rerank":
        return None
    if selection == "none" or _keeps_any(study, method):
        return method
    proposal = _proposal(study, method)
    fits = _unselected if selection == "filter" else _keeps_any
    same = [entry for entry in study.methods if fits(study, entry) and _proposal(study, entry) == proposal]
    if selection == "filter":
        return _first(study, method, same)
    # One candidate is one random candidate whatever the scores say: it comes before the uninformed choice of many.
    return _first(study, method, sorted(same, key=lambda entry: study.methods[entry].k != 1))


def arms_of(store: ArtifactStore, study: Study, organism: Organism, method: str) -> Arms | None:
    """Δ of one cell in domain at T = 1, taken apart; None where the study lacks an arm or has not measured it yet."""
    entries = {"null": null_of(study, method), "one": one_of(study, method), "best": method}
    places = {"organism": organism_evaluation.node(study, organism)}
    if None in entries.values():
        return None
    places |= {arm: evaluation.node(study, Cell(organism, entry)) for arm, entry in entries.items()}
    found = {arm: find(store, place) for arm, place in places.items()}
    if None in found.values():
        return None
    tables = {arm: artifact.table("organism" if arm == "organism" else "rows") for arm, artifact in found.items()}
    rows = {arm: risk_rows(table)[COLUMNS] for arm, table in tables.items()}
    return arms(**rows, confidence=study.evaluation.confidence)


def _first(study: Study, method: str, entries: Iterable[str]) -> str | None:
    """The first of the entries that is trained as `method` is: arms differ in their labels alone."""
    training = study.training_of(method)
    return next((entry for entry in entries if study.training_of(entry) == training), None)


def _keeps_any(study: Study, entry: str) -> bool:
    """Whether best of k keeps a random candidate: k is 1, or the scores say nothing."""
    method = method_of(study, entry)
    return method.selection == "best_of_k" and (method.name == UNINFORMED or study.methods[entry].k == 1)


def _unselected(study: Study, entry: str) -> bool:
    return method_of(study, entry).selection == "none" and method_of(study, entry).objective == "labels"


def _proposal(study: Study, entry: str) -> tuple[object, ...]:
    """What a candidate 0 is drawn from: all of the first draw but how many there are and whose they are."""
    draw: Draw = method_of(study, entry).draws(study.methods[entry], 1)[0]
    return (draw.prompts, draw.temperature, draw.top_p, draw.beams, draw.view, draw.draft)
