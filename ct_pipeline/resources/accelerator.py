"""The compute resource: worker processes, one per GPU or per core, that make artifacts in the store."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from ct_pipeline.runner.workers import Workers, shared_workers
from ct_pipeline.settings.environment import home
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.sharing import open_store

POOL = "accelerator"
"""Dagster's pool of slots to compute: 1 where all steps share a process's workers, on Ray one per device."""


class ArtifactStoreResource(dg.ConfigurableResource):
    """Where finished work lies."""

    folder: str = Field(default="", description="Folder of the artifact store; empty: CT_PIPELINE_HOME/artifacts.")

    @property
    def root(self) -> Path:
        """The store's folder, absolute."""
        return Path(self.folder).absolute() if self.folder else home() / "artifacts"

    def open(self) -> ArtifactStore:
        """The store, checked to be writable; UserError where it is not."""
        store = open_store(self.root)
        store.prepare()
        return store


class AcceleratorResource(dg.ConfigurableResource):
    """The processes that train, sample and evaluate: each has one GPU, or one core where there is none."""

    workers: int = Field(default=0, ge=0, description="Number of worker processes; 0: one per GPU, else one per core.")

    def open(self, root: Path) -> Workers:
        """The workers on a store; the same ones for all steps of a process."""
        return shared_workers(root, self.workers or None)
