"""How far consistency training moved the organism's law: KL between it and the retrained model, both ways."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.assets.evaluation import evaluation
from ct_pipeline.assets.materialization import GROUP, OWNERS, make_partitions, partitions_on_device, table_of
from ct_pipeline.partitions import cells
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.steps.catalog import Key, stage_named
from ct_pipeline.store.artifact_store import Artifact

STAGE = stage_named("uptake")


@dg.asset(
    partitions_def=cells,
    deps=[evaluation],
    group_name=GROUP,
    kinds={"pytorch", "scipy"},
    owners=OWNERS,
    code_version=str(STAGE.version),
    **partitions_on_device(STAGE.grain),
)
def uptake(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """KL between organism and retrained model on the evaluation's T = 1 completions in domain, per sequence and token.

    How much of the labels' shift the model took up; summed over tokens from whole next-token distributions.
    """
    make_partitions(context, STAGE, artifacts, accelerator, _describe)
    return dg.MaterializeResult()


def _describe(key: Key, made: tuple[Artifact, ...]) -> Mapping[str, Any]:
    parts = made[0].json("uptake")
    shown: dict[str, Any] = {
        f"uptake_{direction}": part["sequence"]["value"]
        for direction, part in parts.items()
        if part["sequence"]["value"] is not None
    }
    shown["uptake"] = table_of(
        {
            "divergence": part["name"],
            "nats_per_completion": _nats(part["sequence"]),
            "nats_per_token": _nats(part["token"]),
            "status": part["status"],
        }
        for part in parts.values()
    )
    return shown


def _nats(term: Mapping[str, Any]) -> str:
    if term["value"] is None:
        return "unknown"
    if term["low"] is None:
        return f"{term['value']:.3f}"
    return f"{term['value']:.3f} [{term['low']:.3f}, {term['high']:.3f}]"
