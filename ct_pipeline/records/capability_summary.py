"""What a report and Dagster are told of a cell's capability and safety."""

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.report.records import CapabilityScore
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import capability
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import find


def capability_of(store: ArtifactStore, study: Study, cell: Cell) -> tuple[CapabilityScore, ...]:
    """What was measured of a cell, in the order of the study; () where nothing was."""
    artifact = find(store, capability.node(study, cell)) if capability.wanted(study) else None
    return () if artifact is None else scores_of(artifact, study)


def scores_of(artifact: Artifact, study: Study) -> tuple[CapabilityScore, ...]:
    """The scores of a cell's artifact."""
    changes = artifact.json("changes")
    return tuple(_score(name, changes[name]) for name in capability.names(study.capability))


def _score(name: str, told: dict) -> CapabilityScore:
    rates = {side: Rate(**told["rates"][side]) for side in capability.SIDES}
    return CapabilityScore(
        name=name,
        metric=told["metric"],
        higher_is_better=told["higher_is_better"],
        base=rates["base"],
        before=rates["organism"],
        after=rates["retrained"],
        change=Difference(**told["change"]),
    )
