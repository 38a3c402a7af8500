"""The base model that every organism starts from."""

import dagster as dg

from ct_pipeline.assets.materialization import GROUP, OWNERS, make_partitions, partitions_on_device
from ct_pipeline.partitions import models
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.steps.catalog import stage_named

STAGE = stage_named("base_model")


@dg.asset(
    partitions_def=models,
    group_name=GROUP,
    kinds={"pytorch", "huggingface"},
    owners=OWNERS,
    code_version=str(STAGE.version),
    **partitions_on_device(STAGE.grain),
)
def base_model(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """A causal language model: pretrained here on the tiny world's corpus, or a pinned Hugging Face model.

    It exists once per study, because every organism and every evaluation starts from exactly these weights. The tiny
    world's model must answer direct questions rightly before anything is built on it.
    """

    def describe(key, made):
        record = made[0].record
        return {name: value for name, value in record.items() if isinstance(value, (int, float, str))}

    make_partitions(context, STAGE, artifacts, accelerator, describe)
    return dg.MaterializeResult()
