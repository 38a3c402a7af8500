"""A model made without training: an intervention applied to the deltas of finished adapters, the result saved exactly."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.base_model import rank_beside
from ct_pipeline.store.artifact_store import Artifact

if TYPE_CHECKING:
    from ct_pipeline.models.adapters import Deltas
    from ct_pipeline.models.loading import BaseModel

Source = tuple[Artifact, bool]
"""What was kept of an entry, and whether that is the organism's adapter trained on rather than one beside it."""


def change_model(
    study: Study,
    cell: Cell,
    base: "BaseModel",
    organism: Artifact,
    sources: Mapping[str, Source],
    out: Path,
) -> dict[str, object]:
    """Writes what a model change adds to the organism, and returns what is recorded of it.

    Raises:
        UserError: vLLM, which reserves its memory beforehand, is to serve factors of a higher rank than all together have
            that it was made from.
        Refused: what the intervention returned fits no adapter of this base.
    """
    from ct_pipeline.models.adapter_stack import write_deltas
    from ct_pipeline.models.adapters import read_adapter

    own = read_adapter(organism.folder, base)
    beside = {name: _added(source, own, base) for name, source in sources.items()}
    deltas = method_of(study, cell.method).apply(study.methods[cell.method], own, beside)
    rank = write_deltas(base, deltas, out)
    # What is read is checked: names and shapes of this base, finite numbers.
    read_adapter(out, base)
    largest = rank_beside(study, cell.method)
    if study.models[cell.organism.model].engine == "vllm" and rank > largest:
        raise UserError(
            f"methods.{cell.method}: the new model has rank {rank}, and vLLM serves at most {largest}, that of the "
            "organism and all it is made from together: truncate it, or set engine: transformers"
        )
    return {"modules": len(deltas), "rank": rank, "checkpoints": []}


def _added(source: Source, organism: "Deltas", base: "BaseModel") -> "Deltas":
    """What an entry's model adds to the organism."""
    from ct_pipeline.models.adapters import read_adapter, summed, weighted

    artifact, continued = source
    if not artifact.record.get("modules", 1):
        return {}
    read = read_adapter(artifact.folder, base)
    return summed(read, weighted(organism, -1)) if continued else read
