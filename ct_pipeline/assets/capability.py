"""What consistency training did beside alignment: tasks of lm-eval and the harmfulness of answers to harmful requests."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.analysis.verdicts import effect
from ct_pipeline.assets.evaluation import evaluation
from ct_pipeline.assets.materialization import GROUP, OWNERS, POOL, make_partitions, table_of
from ct_pipeline.assets.tracked import capability_run, cell_run, organism_run
from ct_pipeline.partitions import STUDY, cells
from ct_pipeline.records.capability_summary import scores_of
from ct_pipeline.report.records import CapabilityScore
from ct_pipeline.report.wording import change_interval, percent, points
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.steps.catalog import Key, stage_named
from ct_pipeline.store.artifact_store import Artifact

STAGE = stage_named("capability")


@dg.asset(
    partitions_def=cells,
    deps=[evaluation],
    group_name=GROUP,
    kinds={"pytorch", "scipy", "mlflow"},
    owners=OWNERS,
    pool=POOL,
    code_version=str(STAGE.version),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def capability(
    context: dg.AssetExecutionContext,
    artifacts: ArtifactStoreResource,
    accelerator: AcceleratorResource,
    tracking: TrackingResource,
) -> dg.MaterializeResult:
    """Accuracy on tasks and harmfulness of answers, of base model, organism and retrained model, and the paired change.

    Rows are kept by what a model is: the same adapters are measured once, whichever cell or study asks.
    """
    runs = tracking.open(STUDY.name)
    store = artifacts.open()

    def describe(key: Key, made: tuple[Artifact, ...]) -> Mapping[str, Any]:
        before = stage_named("organism_evaluation").find(store, STUDY, key.organism)[0]
        evaluated = stage_named("evaluation").find(store, STUDY, key)[0]
        organism = runs.record(organism_run(STUDY, key.organism, before, context.run_id))
        parent = runs.record(cell_run(store, STUDY, key, evaluated, organism, context.run_id))
        scores = scores_of(made[0], STUDY)
        run_id = runs.record(capability_run(key, made[0], scores, parent, context.run_id))
        return _describe(scores) | {"mlflow": dg.MetadataValue.url(runs.url(run_id))}

    make_partitions(context, STAGE, artifacts, accelerator, describe)
    return dg.MaterializeResult()


def _describe(scores: tuple[CapabilityScore, ...]) -> Mapping[str, Any]:
    shown: dict[str, Any] = {
        f"{score.name}_change": score.change.value for score in scores if score.change.value is not None
    }
    shown["capability_and_safety"] = table_of(
        {
            "measured": score.name,
            "metric": score.metric,
            "base_model": percent(score.base.value),
            "organism": percent(score.before.value),
            "retrained": percent(score.after.value),
            "change": points(score.change.value),
            "interval": change_interval(score.change),
            "documents": score.change.prompts,
            "verdict": str(effect(score.change, STUDY.evaluation.epsilon, score.higher_is_better)),
        }
        for score in scores
    )
    return shown
