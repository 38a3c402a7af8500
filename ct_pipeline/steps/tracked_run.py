"""What experiment tracking keeps of finished work, said without any tracking library."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.settings.keys import Organism
from ct_pipeline.store.artifact_store import Artifact

if TYPE_CHECKING:
    import pandas

UNREADABLE = ["ids", "loglikelihoods"]
"""Columns that nobody reads in a table of a run."""


@dataclass(frozen=True)
class TrackedRun:
    """One run of experiment tracking; `fingerprint` tells it apart, and one that is there is not written again.

    `parent` gives the run that it stands under, whose fingerprint is `under`; `started` and `finished` are when its work
    was done; `metrics` are final values, None where missing; `curves` are name -> step -> value; `tables` are stored as
    CSV files.
    """

    name: str
    fingerprint: str
    parameters: Mapping[str, object]
    tags: Mapping[str, str]
    metrics: Mapping[str, float | None]
    started: datetime
    finished: datetime
    under: str | None = None
    parent: "Callable[[], TrackedRun] | None" = None
    curves: Mapping[str, Mapping[int, float | None]] = field(default_factory=dict)
    tables: Mapping[str, "pandas.DataFrame"] = field(default_factory=dict)


def identity(organism: Organism) -> Mapping[str, object]:
    """The parameters that name an organism."""
    return {"model": organism.model, "misalignment": organism.kind, "seed": organism.seed}


def training_parameters(settings: TrainingSettings) -> Mapping[str, object]:
    """The settings of a training as flat parameters."""
    flat = settings.model_dump(mode="json")
    lora = flat.pop("lora")
    return flat | {f"lora.{name}": value for name, value in lora.items()}


def made_by(artifact: Artifact) -> dict[str, str]:
    """Tags that lead from a run to its artifact and the code that made it."""
    return {
        "ct_pipeline.artifact": str(artifact.place),
        "ct_pipeline.commit": str(artifact.manifest.provenance.get("commit")),
    }


def readable(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """A table without the columns that nobody reads."""
    return table.drop(columns=[name for name in UNREADABLE if name in table])
