"""What consistency training did to the risk: the retrained model against the organism, on the same prompts."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.verdicts import verdict
from ct_pipeline.assets.materialization import (
    GROUP,
    OWNERS,
    make_partitions,
    partitions_on_device,
    picture_of,
    table_of,
)
from ct_pipeline.assets.organism_evaluation import organism_evaluation
from ct_pipeline.assets.retrained_model import retrained_model
from ct_pipeline.assets.tracked import cell_run, organism_run
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.measurement.differing_rows import differing_rows
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.partitions import STUDY, cells
from ct_pipeline.records.study_record import doses_of, method_record
from ct_pipeline.report.figures.forest import small_delta_plot
from ct_pipeline.report.figures.small import small_dose_plot
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.steps.catalog import Key, stage_named
from ct_pipeline.store.artifact_store import Artifact

STAGE = stage_named("evaluation")
ORGANISM_STAGE = stage_named("organism_evaluation")
CHECK = "capability_kept_and_verdicts_readable"
ACCURACY_FLOOR = 0.9
NULL_LIMIT = 0.05
SHOWN = 10


@dg.asset(
    partitions_def=cells,
    deps=[retrained_model, organism_evaluation],
    group_name=GROUP,
    kinds={"pytorch", "scipy", "mlflow"},
    owners=OWNERS,
    code_version=str(STAGE.version),
    **partitions_on_device(STAGE.grain),
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset="evaluation",
            description=f"Plain questions are still answered rightly (≥ {ACCURACY_FLOOR:.0%}), and at most {NULL_LIMIT:.0%} "
            "of completions have no verdict.",
        )
    ],
)
def evaluation(
    context: dg.AssetExecutionContext,
    artifacts: ArtifactStoreResource,
    accelerator: AcceleratorResource,
    tracking: TrackingResource,
) -> dg.MaterializeResult:
    """One row per completion of a retrained model, and the change of risk against its organism with its interval.

    Same prompts, same decoding, same random numbers as the organism's own evaluation, so that the change is paired.
    """
    runs = tracking.open(STUDY.name)
    store = artifacts.open()

    def describe(key: Key, made: tuple[Artifact, ...]) -> Mapping[str, Any]:
        before = ORGANISM_STAGE.find(store, STUDY, key.organism)[0]
        parent = runs.record(organism_run(STUDY, key.organism, before, context.run_id))
        run_id = runs.record(cell_run(store, STUDY, key, made[0], parent, context.run_id))
        return _describe(key.method, before, made[0]) | {"mlflow": dg.MetadataValue.url(runs.url(run_id))}

    made = make_partitions(context, STAGE, artifacts, accelerator, describe)
    faults = {key.key: fault for key, (artifact,) in made.items() if (fault := _fault(artifact))}
    return dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK,
                passed=not faults,
                severity=dg.AssetCheckSeverity.WARN,
                metadata=faults or {"faults": "none"},
            )
        ]
    )


def _fault(artifact: Artifact) -> str | None:
    changes = artifact.json("changes")
    accuracy = changes["direct_accuracy_after"]["value"]
    rows = artifact.table("rows")
    judged = risk_rows(rows, None)["verdict"]
    if accuracy is None or accuracy < ACCURACY_FLOOR:
        return f"direct accuracy {accuracy}"
    if float(judged.isna().mean()) > NULL_LIMIT:
        return f"{float(judged.isna().mean()):.1%} of completions have no verdict"
    return None


def _describe(method: str, before: Artifact, after: Artifact) -> Mapping[str, Any]:
    changes = after.json("changes")
    differences = {name: Difference(**fields) for name, fields in changes["changes"].items()}
    main = differences[MAIN_VIEW.name]
    epsilon = STUDY.evaluation.epsilon
    doses = doses_of(after)
    dosed = {}
    if doses:
        curve = small_dose_plot([(dose.step, dose.change) for dose in doses], method_record(STUDY, method), epsilon)
        dosed["dose_curve"] = picture_of(curve, "Change of risk along the steps of retraining; the numbers stand below")
    return {
        "delta": main.value if main.value is not None else "none",
        "delta_low": main.low,
        "delta_high": main.high,
        "verdict": str(verdict(main, epsilon)),
        "direct_accuracy": changes["direct_accuracy_after"]["value"],
        "plot": picture_of(small_delta_plot(list(differences.items()), epsilon), "Change of risk with its interval"),
        "changes": table_of(
            [
                {
                    "domain": name.split("/")[0],
                    "decoding": name.split("/")[1],
                    "before": _number(one.before),
                    "after": _number(one.after),
                    "delta": _number(one.value),
                    "interval": f"[{one.low:+.3f}, {one.high:+.3f}]",
                }
                for name, one in differences.items()
            ]
        ),
        **dosed,
        "changes_by_dose": table_of(
            [
                {
                    "step": dose.step,
                    "delta": _number(dose.change.value),
                    "interval": f"[{dose.change.low:+.3f}, {dose.change.high:+.3f}]",
                }
                for dose in doses
            ]
        ),
        "completions_that_differ": table_of(
            [
                {"prompt": row.prompt, "before": row.completion_before, "after": row.completion_after}
                for row in differing_rows(before.table("organism"), after.table("rows")).head(SHOWN).itertuples()
            ]
        ),
    }


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
