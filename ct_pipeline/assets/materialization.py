"""What every stage's asset does: partition keys to keys, one call to the workers, metadata per partition."""

import base64
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg
from matplotlib.figure import Figure

from ct_pipeline.assets.launch import is_launched, make_launched
from ct_pipeline.partitions import STUDY, key_of, partition_key
from ct_pipeline.report.figures.style import as_png
from ct_pipeline.resources.accelerator import POOL, AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.ray_cluster import step_options
from ct_pipeline.runner.workers import Outcome
from ct_pipeline.settings.environment import executor
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps.catalog import Key, Stage
from ct_pipeline.store.artifact_store import Artifact

Describe = Callable[[Key, tuple[Artifact, ...]], Mapping[str, Any]]

GROUP = "study"
OWNERS = ["team:ct-pipeline"]
ON_DEVICE: dict[str, Any] = {"pool": POOL, **step_options()}
"""Of an asset whose step computes: one slot of the pool, and what it asks of Ray where that runs it."""


def partitions_on_device(grain: str) -> dict[str, Any]:
    """ON_DEVICE, and how a backfill goes over partitions of a grain.

    All of them in one run, whose workers stay warm; on Ray a run per model, organism, or organism's cells, side by side.
    """
    policy = dg.BackfillPolicy.single_run()
    if executor() == "ray":
        policy = dg.BackfillPolicy.multi_run(len(STUDY.methods) if grain == "cell" else 1)
    return {**ON_DEVICE, "backfill_policy": policy}


def table_of(rows: Iterable[Mapping[str, Any]]) -> dg.MetadataValue:
    """Rows as a table on an asset's page; "none" where there are none, which Dagster would refuse as a table."""
    records = [dg.TableRecord(dict(row)) for row in rows]
    return dg.MetadataValue.table(records) if records else dg.MetadataValue.text("none")


def picture_of(figure: Figure, text: str) -> dg.MetadataValue:
    """A figure on an asset's page, as a small picture with a text for those who do not see it."""
    return embedded(as_png(figure), text)


def embedded(png: bytes, text: str) -> dg.MetadataValue:
    """A small picture on an asset's page."""
    picture = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{text}](data:image/png;base64,{picture})")


def cut_of_batch(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a training run cut its effective batch; nothing where an older artifact does not say."""
    names = ("micro_batch", "accumulation", "processes", "out_of_memory")
    return {name: record[name] for name in names if record.get(name) not in (None, [])}


def make_partitions(
    context: dg.AssetExecutionContext,
    stage: Stage,
    artifacts: ArtifactStoreResource,
    accelerator: AcceleratorResource,
    describe: Describe,
) -> dict[Key, tuple[Artifact, ...]]:
    """Makes the context's partitions of a stage and puts metadata on each; returns their artifacts.

    A mistake that a person can mend is shown as such, without a traceback.
    """
    keys = [key_of(stage.grain, partition) for partition in context.partition_keys]
    made: dict[Key, tuple[Artifact, ...]] = {}
    try:
        store = artifacts.open()

        def publish(outcome: Outcome) -> None:
            made[outcome.key] = stage.find(store, STUDY, outcome.key)
            metadata = {
                "seconds": outcome.seconds,
                "reused": outcome.reused,
                "artifact": dg.MetadataValue.path(str(made[outcome.key][0].place)),
                "fingerprint": made[outcome.key][0].manifest.fingerprint,
                "host": socket.gethostname(),
                "device": made[outcome.key][0].manifest.provenance["machine"].get("device") or "cores",
            }
            metadata |= describe(outcome.key, made[outcome.key])
            context.add_asset_metadata(metadata, partition_key=partition_key(outcome.key))

        workers = accelerator.open(store.root)
        together = [key for key in keys if is_launched(stage, key)]
        alone = [key for key in keys if not is_launched(stage, key)]
        if alone or not together:
            workers.make(stage.name, STUDY, alone, publish)
        if together:
            make_launched(context, stage, together, store, workers, publish)
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    return made
