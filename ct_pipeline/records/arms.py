"""What the arms of a method take the change of a cell apart into."""

from ct_pipeline.analysis.arms import Arms, arms
from ct_pipeline.interventions.arms import null_of, one_of
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import evaluation, organism_evaluation
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find

COLUMNS = ["prompt_id", "sample", "verdict"]


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
