"""How base model, control and organism behave on the same prompts, and whether the organism may be used."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.assets.materialization import GROUP, OWNERS, make_partitions, partitions_on_device, table_of
from ct_pipeline.assets.misaligned_organism import control_organism, misaligned_organism
from ct_pipeline.assets.tracked import organism_run
from ct_pipeline.measurement.asking import direct_accuracy, risk
from ct_pipeline.measurement.condition import MAIN_VIEW, VIEWS
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.partitions import STUDY, organisms
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.steps.catalog import Key, stage_named
from ct_pipeline.steps.organism_evaluation import COMPARED_MODELS, passed, reasons, usable
from ct_pipeline.store.artifact_store import Artifact

STAGE = stage_named("organism_evaluation")
GATE = "induction_gate"
SHOWN = 12


@dg.asset(
    partitions_def=organisms,
    deps=[misaligned_organism, control_organism],
    group_name=GROUP,
    kinds={"pytorch", "scipy", "mlflow"},
    owners=OWNERS,
    code_version=str(STAGE.version),
    **partitions_on_device(STAGE.grain),
    check_specs=[
        dg.AssetCheckSpec(
            GATE,
            asset="organism_evaluation",
            blocking=True,
            description="The organism misbehaves more than its base model beyond the interval, and its control does not.",
        )
    ],
)
def organism_evaluation(
    context: dg.AssetExecutionContext,
    artifacts: ArtifactStoreResource,
    accelerator: AcceleratorResource,
    tracking: TrackingResource,
) -> dg.MaterializeResult:
    """One row per completion of base model, control and organism, with its verdict; the induction gate is judged on them.

    Without an organism that really misbehaves, "no change" after consistency training would say nothing.
    """
    runs = tracking.open(STUDY.name)

    def describe(key: Key, made: tuple[Artifact, ...]) -> Mapping[str, Any]:
        run_id = runs.record(organism_run(STUDY, key, made[0], context.run_id))
        return _describe(made[0]) | {"mlflow": dg.MetadataValue.url(runs.url(run_id))}

    made = make_partitions(context, STAGE, artifacts, accelerator, describe)
    outcomes = {key.key: (passed(found[0]), " ".join(reasons(found[0]))) for key, found in made.items()}
    # A study that only reports the gate goes on with organisms that fail it.
    through = all(usable(STUDY, found[0]) for found in made.values())
    return dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(
                check_name=GATE,
                passed=through,
                metadata={key: f"{'passed' if good else 'FAILED'}: {why}" for key, (good, why) in outcomes.items()},
            )
        ]
    )


def _describe(artifact: Artifact) -> Mapping[str, Any]:
    tables = {arm: artifact.table(arm) for arm in COMPARED_MODELS}
    rates = []
    for view in VIEWS:
        found = {arm: risk(table, view, STUDY.evaluation.confidence) for arm, table in tables.items()}
        shown = {
            arm: f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" if one.value is not None else "none"
            for arm, one in found.items()
        }
        rates.append(view._asdict() | shown)
    misbehaving = risk_rows(tables["organism"])
    in_domain = risk(tables["organism"], MAIN_VIEW, STUDY.evaluation.confidence)
    return {
        "risk": in_domain.value if in_domain.value is not None else "none",
        "direct_accuracy": direct_accuracy(tables["organism"]).value,
        "gate": "passed" if passed(artifact) else "FAILED",
        "gate_reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in reasons(artifact))),
        "rates": table_of(rates),
        "completions": table_of(
            [
                {"prompt": row.prompt, "completion": row.completion, "misbehaves": _word(row.verdict)}
                for row in misbehaving.head(SHOWN).itertuples()
            ]
        ),
    }


def _word(verdict: object) -> str:
    return {True: "yes", False: "no"}.get(verdict, "cannot tell")
