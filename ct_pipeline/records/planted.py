"""Planted effects of a study, read from its artifacts: what came of each is judged by `analysis.planted`."""

import pandas

from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.planted import PlantedRun, Quantity, Recovered, as_difference, recovery
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import distribution_shift, evaluation
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find
from ct_pipeline.store.typed import typed


def recovered(store: ArtifactStore, study: Study) -> tuple[Recovered, ...]:
    """One row per model, misalignment, planted method and quantity, in the order of the study; () where none is planted.

    Changes are in domain at T = 1, selection is on the probe prompts; the seed of an organism that is not there, or that
    its gate kept from being used, is missing.
    """
    return tuple(
        _recovery(store, study, model, kind, method, quantity)
        for model in study.models
        for kind in study.misalignments
        for method in study.methods
        if method in study.planted
        for quantity in ("change", "selection")
        if getattr(study.planted[method], quantity) is not None
    )


def _recovery(store: ArtifactStore, study: Study, model: str, kind: str, method: str, quantity: Quantity) -> Recovered:
    run = {"change": _change, "selection": _selection}[quantity]
    return recovery(
        world=study.name,
        kind=kind,
        method=method,
        quantity=quantity,
        planted=getattr(study.planted[method], quantity),
        runs=[run(store, study, Cell(Organism(model, kind, seed), method)) for seed in study.seeds_of(model)],
        epsilon=study.evaluation.epsilon,
        confidence=study.evaluation.confidence,
    )


def _change(store: ArtifactStore, study: Study, cell: Cell) -> PlantedRun:
    artifact = find(store, evaluation.node(study, cell))
    return PlantedRun(
        None if artifact is None else typed(Difference, artifact.json("changes")["changes"][MAIN_VIEW.name])
    )


def _selection(store: ArtifactStore, study: Study, cell: Cell) -> PlantedRun:
    found = distribution_shift.STEP.find(store, study, cell)
    artifact = found[0] if found else None
    if artifact is None or "decomposition.json" not in artifact.manifest.files:
        return PlantedRun(None)
    parts = artifact.json("decomposition")
    terms = (typed(Estimate, parts[name]) for name in ("selection", "proposal", "labels"))
    curve = _curve(artifact.table("k_curve")) if "k_curve.parquet" in artifact.manifest.files else None
    return PlantedRun(as_difference(*terms, study.evaluation.confidence), curve)


def _curve(table: pandas.DataFrame) -> dict[int, float]:
    """Selection by k, a missing score counting as worst."""
    worst = table[table["missing"] == "worst"]
    return dict(zip(worst["k"].astype(int), worst["selection"].astype(float), strict=True))
