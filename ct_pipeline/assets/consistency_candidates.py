"""Everything an organism says that a method may keep."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.assets.materialization import GROUP, OWNERS, make_partitions, partitions_on_device, table_of
from ct_pipeline.assets.organism_evaluation import organism_evaluation
from ct_pipeline.partitions import organisms
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.steps.catalog import Key, stage_named
from ct_pipeline.store.artifact_store import Artifact

STAGE = stage_named("consistency_candidates")
SHOWN = 12


@dg.asset(
    partitions_def=organisms,
    deps=[organism_evaluation],
    group_name=GROUP,
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    code_version=str(STAGE.version),
    **partitions_on_device(STAGE.grain),
)
def consistency_candidates(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """One row per completion that an organism gives to a consistency or probe prompt: text, log-probability, verdict, scores.

    All text of Phase 2 is drawn here, every distinct way of drawing once, so that methods differ in what they keep alone.
    """
    make_partitions(context, STAGE, artifacts, accelerator, _describe)
    return dg.MaterializeResult()


def _describe(key: Key, made: tuple[Artifact, ...]) -> Mapping[str, Any]:
    draws, scores, judged, examples = [], [], [], []
    for artifact in made:
        if "judging" in artifact.record:
            judged += [
                {
                    "of": f"{artifact.manifest.stage.replace('_', ' ')}: {artifact.manifest.variant}",
                    "judge": role,
                    "asked": told["asked"],
                    "without_verdict": told["missing"],
                }
                for role, told in artifact.record["judging"].items()
            ]
            continue
        if artifact.manifest.stage != STAGE.name:
            scores.append({"score": artifact.manifest.variant, **artifact.record})
            continue
        table = artifact.table("candidates")
        verdicts = table["verdict"].dropna()
        draws.append(
            {
                "draw": artifact.manifest.variant,
                "prompts": int(table["prompt_id"].nunique()),
                "completions": len(table),
                "tokens": int(table["tokens"].sum()),
                "misbehaving": f"{float(verdicts.mean()):.3f}" if len(verdicts) else "undefined",
                "without_verdict": int(table["verdict"].isna().sum()),
            }
        )
        for row in table.head(SHOWN // 4).itertuples():
            examples.append({"draw": row.draw, "prompt": row.prompt, "completion": row.completion})
    return {
        "draws": table_of(draws),
        "scores": table_of(scores),
        "judged": table_of(judged),
        "completions": table_of(examples),
    }
