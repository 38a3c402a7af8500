"""What one method keeps of an organism's candidates."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.assets.consistency_candidates import consistency_candidates
from ct_pipeline.assets.materialization import GROUP, OWNERS, make_partitions, partitions_on_device, table_of
from ct_pipeline.partitions import cells
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.steps.catalog import Key, stage_named
from ct_pipeline.store.artifact_store import Artifact

STAGE = stage_named("consistency_labels")
CHECK = "labels_are_there"
MISSING_LIMIT = 0.2
SHOWN = 8


@dg.asset(
    partitions_def=cells,
    deps=[consistency_candidates],
    group_name=GROUP,
    kinds={"pandas", "parquet"},
    owners=OWNERS,
    code_version=str(STAGE.version),
    **partitions_on_device(STAGE.grain),
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="consistency_labels",
            description=f"Every cell keeps labels, and at most {MISSING_LIMIT:.0%} of its scores are missing where it scores.",
        )
    ],
)
def consistency_labels(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """One row per prompt that a method labels: the completion it keeps. A pure function of the candidates."""
    made = make_partitions(context, STAGE, artifacts, accelerator, _describe)
    faults = {}
    for key, (artifact,) in made.items():
        missing, scorable = artifact.record["missing_scores"], artifact.record["scorable"]
        if missing > MISSING_LIMIT * scorable:
            faults[key.key] = f"{missing} of {scorable} scores are missing"
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(check_name=CHECK, passed=not faults, metadata=faults or {"faults": "none"})]
    )


def _describe(key: Key, made: tuple[Artifact, ...]) -> Mapping[str, Any]:
    labels = made[0].table("labels")
    verdicts = labels["verdict"].dropna()
    return {
        "kept": made[0].record["kept"],
        "dropped_prompts": made[0].record["dropped"],
        "missing_scores": made[0].record["missing_scores"],
        "mean_tokens": float(labels["tokens"].mean()),
        "misbehaving": float(verdicts.mean()) if len(verdicts) else "undefined",
        "labels": table_of(
            [
                {"prompt": row.prompt, "label": row.completion, "score": f"{row.score:.3f}"}
                for row in labels.head(SHOWN).itertuples()
            ]
        ),
    }
