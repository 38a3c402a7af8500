"""What changed between before and after, and how far the model's law moved."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.assets.audit_evaluation import audit_evaluation
from ct_pipeline.assets.audit_inputs import GROUP
from ct_pipeline.assets.audit_prediction import audit_prediction
from ct_pipeline.assets.auditing import (
    ONE_AUDIT_PER_RUN,
    WITH_THE_REST,
    Audited,
    make_stage,
    moved,
    plotted,
    stage_called,
)
from ct_pipeline.assets.materialization import ON_DEVICE, OWNERS, picture_of, table_of
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.partitions import audit_subject
from ct_pipeline.report.figures.forest import small_delta_plot
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource

STAGE = stage_called("audit_shift")
MOST_DRAWN = 20


@dg.asset(
    partitions_def=audit_subject,
    deps=[audit_evaluation, audit_prediction],
    group_name=GROUP,
    kinds={"pytorch", "scipy"},
    owners=OWNERS,
    **ON_DEVICE,
    code_version=str(STAGE.version),
    backfill_policy=ONE_AUDIT_PER_RUN,
    automation_condition=WITH_THE_REST,
)
def audit_shift(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """Change of the risk per probe, KL between after and before both ways, and the labels' surprise under before."""
    return shown(make_stage(context, STAGE, artifacts, accelerator))


def shown(made: Audited) -> dg.MaterializeResult:
    """What the asset's page shows of a shift."""
    return dg.MaterializeResult(asset_key=STAGE.name, metadata={**made.metadata, **_describe(made)})


def _describe(made: Audited) -> Mapping[str, Any]:
    changes = {
        probe: {view: Difference(**change) for view, change in views.items()}
        for probe, views in made.artifact.json("changes").items()
    }
    main = {probe: views[MAIN_VIEW.name] for probe, views in changes.items()}
    rows = [
        {
            "probe": probe,
            "view": view,
            "points": moved(vars(change)),
            "prompts": change.prompts,
        }
        for probe, views in changes.items()
        for view, change in views.items()
        if change.value is not None
    ]
    uptake = made.artifact.json("uptake")
    numbers: dict[str, float | None] = {f"change: {probe}": change.value for probe, change in main.items()}
    for probe, ways in uptake["probes"].items():
        numbers |= {f"{part['name']} per answer: {probe}": part["sequence"]["value"] for part in ways.values()}
    for group, part in made.artifact.json("labels").items():
        numbers[f"surprise of labels per token: {group}"] = part["token"]["value"]
    shown = plotted(numbers) | {"changes": table_of(rows)}
    if uptake["missing"]:
        shown["no KL"] = uptake["missing"]
    drawn = [(probe, change) for probe, change in main.items() if change.value is not None][:MOST_DRAWN]
    if drawn:
        plot = small_delta_plot(drawn, made.audit.thresholds.epsilon)
        shown["picture"] = picture_of(plot, "Change of the risk per probe with its interval")
    return shown
