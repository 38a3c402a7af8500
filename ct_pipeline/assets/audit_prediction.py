"""What labels and plain requests say beforehand of the change."""

import dagster as dg

from ct_pipeline.assets.audit_evaluation import audit_evaluation
from ct_pipeline.assets.audit_inputs import GROUP
from ct_pipeline.assets.auditing import (
    ONE_AUDIT_PER_RUN,
    WITH_THE_REST,
    Audited,
    make_stage,
    moved,
    plotted,
    stage_called,
)
from ct_pipeline.assets.materialization import ON_DEVICE, OWNERS, table_of
from ct_pipeline.partitions import audit_subject
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource

STAGE = stage_called("audit_prediction")


@dg.asset(
    partitions_def=audit_subject,
    deps=[audit_evaluation],
    group_name=GROUP,
    kinds={"pytorch", "scipy"},
    owners=OWNERS,
    **ON_DEVICE,
    code_version=str(STAGE.version),
    backfill_policy=ONE_AUDIT_PER_RUN,
    automation_condition=WITH_THE_REST,
)
def audit_prediction(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """Sign and size of the change that the labels, or the probes' plain sides, foretell; nothing trained is looked at."""
    return shown(make_stage(context, STAGE, artifacts, accelerator))


def shown(made: Audited) -> dg.MaterializeResult:
    """What the asset's page shows of a prediction."""
    found = made.artifact.json("predictions")["predictions"]
    rows = [
        {
            "from": f"{each['source']}: {each['group']}",
            "sign": each["sign"],
            "points": moved(each),
            "basis": each["basis"],
        }
        for each in found
    ]
    values = {f"predicted change from {each['source']}: {each['group']}": each["value"] for each in found}
    return dg.MaterializeResult(
        asset_key=STAGE.name, metadata={**made.metadata, **plotted(values), "predictions": table_of(rows)}
    )
