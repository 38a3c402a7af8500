"""What a study's Dagster runs consist of: groups of steps, each materialized for the keys that lack something."""

from collections.abc import Sequence
from typing import Protocol

from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import Key, admitted_to
from ct_pipeline.steps.organism_evaluation import STEP as EVALUATED
from ct_pipeline.steps.organism_evaluation import reasons, usable
from ct_pipeline.steps.step import Step
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import StoreSnapshot

Group = tuple[Step, ...]


class Runs(Protocol):
    """Who materializes; see dagster_runs.AssetRuns."""

    failure: str | None

    def knows(self, names: Sequence[str], key: Key) -> bool:
        """Whether Dagster has a materialization of every named asset for a key."""

    def materialize(self, names: Sequence[str], keys: Sequence[Key] | None) -> None:
        """Materializes assets for keys."""


def run_group(group: Group, study: Study, store: ArtifactStore, runs: Runs) -> None:
    """Materializes what is missing of a group of steps; UserError with Dagster's reason where not all of it was made."""
    look, names = StoreSnapshot(store), tuple(step.name for step in group)
    keys = admitted_to(look, study, group)
    missing = [key for key in keys if _lacks(look, study, group, key) or not runs.knows(names, key)]
    runs.materialize(names, missing)
    look = look.renewed()
    if any(_lacks(look, study, group, key) for key in missing):
        raise UserError(runs.failure or f"{', '.join(names)}: not all of it was made, and Dagster says no reason")
    if runs.failure and not (EVALUATED in group and failed_gates(look, study)):
        raise UserError(f"{runs.failure}\nWhat was made is kept; run again to go on.")


def failed_gates(store: ArtifactStore, study: Study) -> dict[str, str]:
    """Organism -> why it did not pass the induction gate, of those that did not."""
    found = {organism.key: EVALUATED.find(store, study, organism) for organism in study.organisms}
    return {key: " ".join(reasons(made[0])) for key, made in found.items() if made and not usable(study, made[0])}


def _lacks(look: StoreSnapshot, study: Study, group: Group, key: Key) -> bool:
    return any(step.find(look, study, key) is None for step in group)
