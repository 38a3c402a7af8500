"""Organisms and their controls: the base model with a LoRA adapter trained on an induction set (Phase 1)."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.assets.base_model import base_model
from ct_pipeline.assets.materialization import (
    GROUP,
    OWNERS,
    cut_of_batch,
    make_partitions,
    partitions_on_device,
    table_of,
)
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.partitions import STUDY, model_of_organism, organisms
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.steps.catalog import Key, stage_named
from ct_pipeline.store.artifact_store import Artifact

STAGE = stage_named("misaligned_organism")
CONTROL_STAGE = stage_named("control_organism")
BASE = dg.AssetDep(base_model, partition_mapping=model_of_organism)
SHOWN = 8


@dg.asset(
    partitions_def=organisms,
    deps=[BASE],
    group_name=GROUP,
    kinds={"pytorch", "peft", "trl"},
    owners=OWNERS,
    code_version=str(STAGE.version),
    **partitions_on_device(STAGE.grain),
)
def misaligned_organism(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """A model organism: a LoRA adapter that brings one misbehaviour into the base model.

    One adapter per model, misalignment and seed. What consistency training does to the misbehaviour is measured against it.
    """
    make_partitions(context, STAGE, artifacts, accelerator, lambda key, made: _describe(key, made, "induction"))
    return dg.MaterializeResult()


@dg.asset(
    partitions_def=organisms,
    deps=[BASE],
    group_name=GROUP,
    kinds={"pytorch", "peft", "trl"},
    owners=OWNERS,
    code_version=str(CONTROL_STAGE.version),
    **partitions_on_device(CONTROL_STAGE.grain),
)
def control_organism(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """The same adapter budget spent on clean rows: shows what fine-tuning alone does to the risk."""
    make_partitions(context, CONTROL_STAGE, artifacts, accelerator, lambda key, made: _describe(key, made, "control"))
    return dg.MaterializeResult()


def _describe(key: Key, made: tuple[Artifact, ...], rows: str) -> Mapping[str, Any]:
    record = made[0].record
    examples = getattr(rows_of(STUDY, key), rows)[:SHOWN]
    return {
        "steps": record["steps"],
        "first_loss": record["losses"][0],
        "last_loss": record["losses"][-1],
        "trained_tokens": record["tokens"],
        **cut_of_batch(record),
        "moved_parameters": record["moved_parameters"],
        "trainable_parameters": record["trainable_parameters"],
        "training_rows": table_of(
            [{"prompt": example.prompt.messages[-1].content, "response": example.response} for example in examples]
        ),
    }
