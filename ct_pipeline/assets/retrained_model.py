"""The organism after consistency training (Phase 3)."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.assets.consistency_labels import consistency_labels
from ct_pipeline.assets.distribution_shift import distribution_shift
from ct_pipeline.assets.materialization import GROUP, OWNERS, cut_of_batch, make_partitions, partitions_on_device
from ct_pipeline.assets.misaligned_organism import misaligned_organism
from ct_pipeline.partitions import cells
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.steps.catalog import Key, stage_named
from ct_pipeline.store.artifact_store import Artifact

STAGE = stage_named("retrained_model")
CHECK = "adapter_changed_and_organism_kept"
MOVED = 0.999
"""Share of an adapter's numbers that must differ from their start; training itself raises where a whole tensor does not.

One number in 10^5 may end where it began, to the last bit.
"""


@dg.asset(
    partitions_def=cells,
    deps=[consistency_labels, distribution_shift, misaligned_organism],
    group_name=GROUP,
    kinds={"pytorch", "peft", "trl"},
    owners=OWNERS,
    code_version=str(STAGE.version),
    **partitions_on_device(STAGE.grain),
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="retrained_model",
            blocking=True,
            description="Every tensor trained moved; without the new adapter the organism's logits are as before, bit for bit.",
        )
    ],
)
def retrained_model(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """A second adapter on the frozen organism, trained on one method's labels or by its consistency loss."""
    made = make_partitions(context, STAGE, artifacts, accelerator, _describe)
    faults = {
        key.key: f"{artifact.record['moved_parameters']} of {artifact.record['trainable_parameters']} parameters moved"
        for key, (artifact,) in made.items()
        if artifact.record["moved_parameters"] < MOVED * artifact.record["trainable_parameters"]
    }
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(check_name=CHECK, passed=not faults, metadata=faults or {"faults": "none"})]
    )


def _describe(key: Key, made: tuple[Artifact, ...]) -> Mapping[str, Any]:
    record = made[0].record
    return {
        "steps": record["steps"],
        "first_loss": record["losses"][0],
        "last_loss": record["losses"][-1],
        "trained_tokens": record["tokens"],
        **cut_of_batch(record),
        **{name: float(value) for name, value in record["checks"].items()},
    }
