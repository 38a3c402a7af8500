"""What a study's Dagster runs consist of: groups of stages, each materialized for the keys that lack something."""

from collections.abc import Sequence
from typing import Protocol

from ct_pipeline.records import study_report
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import STAGES, Key
from ct_pipeline.steps.organism_evaluation import node, reasons, usable
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find

Group = tuple[str, ...]
# Stages of one group are steps of one Dagster run; the induction gate ends the second group.
GATED = ("misaligned_organism", "control_organism", "organism_evaluation")
GROUPS: tuple[Group, ...] = (
    ("base_model",),
    GATED,
    ("consistency_candidates",),
    ("consistency_labels", "distribution_shift", "retrained_model", "evaluation", "capability", "uptake"),
)


class Runs(Protocol):
    """Who materializes; see dagster_runs.AssetRuns."""

    failure: str | None

    def knows(self, names: Sequence[str], key: Key) -> bool:
        """Whether Dagster has a materialization of every named asset for a key."""

    def materialize(self, names: Sequence[str], keys: Sequence[Key] | None) -> None:
        """Materializes assets for keys."""


def run_group(names: Group, study: Study, store: ArtifactStore, runs: Runs) -> None:
    """Materializes what is missing of a group of stages; UserError with Dagster's reason where not all of it was made."""
    stages = [stage for stage in STAGES if stage.name in names and stage.wanted(study)]
    gated, names = names == GATED, tuple(stage.name for stage in stages)
    keys = stages[0].keys(study)
    if stages[0].name == "consistency_candidates":
        passed = {cell.organism for cell in study_report.usable_cells(store, study, study.organisms)}
        keys = tuple(key for key in keys if key in passed)
    elif stages[0].grain == "cell":
        keys = study_report.usable_cells(store, study, study.organisms)
    missing = [
        key
        for key in keys
        if any(stage.find(store, study, key) is None for stage in stages) or not runs.knows(names, key)
    ]
    runs.materialize(names, missing)
    lacking = [key for key in keys if any(stage.find(store, study, key) is None for stage in stages)]
    if lacking:
        raise UserError(runs.failure or f"{', '.join(names)}: not all of it was made, and Dagster says no reason")
    if runs.failure and not (gated and failed_gates(store, study)):
        raise UserError(f"{runs.failure}\nWhat was made is kept; run again to go on.")


def failed_gates(store: ArtifactStore, study: Study) -> dict[str, str]:
    """Organism -> why it did not pass the induction gate, of those that did not."""
    found = {organism.key: find(store, node(study, organism)) for organism in study.organisms}
    return {key: " ".join(reasons(artifact)) for key, artifact in found.items() if not usable(study, artifact)}
