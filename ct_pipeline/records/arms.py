"""What the arms of a method take the change of a cell apart into."""

from functools import lru_cache
from pathlib import Path

import pandas

from ct_pipeline.analysis.arms import Arm, Arms, arm, arms
from ct_pipeline.interventions.arms import null_of, one_of
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import evaluation, organism_evaluation
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find

COLUMNS = ["prompt_id", "sample", "verdict", "framing", "domain", "decoding"]


def arms_of(store: ArtifactStore, study: Study, organism: Organism, method: str) -> Arms | None:
    """Δ of one cell in domain at T = 1, taken apart; None where the study lacks an arm or has not measured it yet."""
    entries = {"null": null_of(study, method), "one": one_of(study, method), "best": method}
    places = {"organism": organism_evaluation.node(study, organism)}
    if None in entries.values():
        return None
    places |= {name: evaluation.node(study, Cell(organism, entry)) for name, entry in entries.items()}
    found = {name: find(store, place) for name, place in places.items()}
    if None in found.values():
        return None
    measured = {
        name: _arm(artifact.place, name, "organism" if name == "organism" else "rows")
        for name, artifact in found.items()
    }
    return arms(**measured, confidence=study.evaluation.confidence)


@lru_cache(maxsize=64)
def _arm(folder: Path, name: str, table: str) -> Arm:
    """An arm of a finished artifact, which never changes; several methods share the null arm and the random candidate's."""
    return arm(name, risk_rows(pandas.read_parquet(folder / f"{table}.parquet", columns=COLUMNS)))
