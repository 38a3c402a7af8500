"""What the models of an audit answer, before and after, on every probe."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from ct_pipeline.analysis.rates import rate
from ct_pipeline.assets.audit_inputs import GROUP, audit_inputs
from ct_pipeline.assets.auditing import (
    CHANGED_INPUTS,
    ONE_AUDIT_PER_RUN,
    Audited,
    RefusedInput,
    make_stage,
    plotted,
    stage_called,
)
from ct_pipeline.assets.materialization import ON_DEVICE, OWNERS, table_of
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.partitions import audit_subject
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.steps.audit_evaluation import tables_of

STAGE = stage_called("audit_evaluation")
QUARANTINE = "quarantine"
SHOWN = 12


@dg.asset(
    partitions_def=audit_subject,
    deps=[audit_inputs],
    group_name=GROUP,
    kinds={"pytorch", "huggingface"},
    owners=OWNERS,
    **ON_DEVICE,
    code_version=str(STAGE.version),
    backfill_policy=ONE_AUDIT_PER_RUN,
    automation_condition=CHANGED_INPUTS,
    check_specs=[
        dg.AssetCheckSpec(
            QUARANTINE,
            asset="audit_evaluation",
            partitions_def=audit_subject,
            description="Every file that a model library opens was inspected and is on the allow-lists.",
        )
    ],
)
def audit_evaluation(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """One row per answer of the audited model before and after, on every probe, sampled and greedy, with its verdict.

    Files of strangers are inspected before any library opens one; what is refused stops the audit here, by name.
    """
    try:
        made = make_stage(context, STAGE, artifacts, accelerator)
    except RefusedInput as failure:
        yield dg.AssetCheckResult(check_name=QUARANTINE, passed=False, metadata=failure.metadata)
        raise
    yield shown(made)


def shown(made: Audited) -> dg.MaterializeResult:
    """What the asset's page shows of the answers, and the check of the files they came from."""
    inspections = made.artifact.json("quarantine")["inspections"]
    files = _inspected(inspections)
    check = dg.AssetCheckResult(
        asset_key=STAGE.name,
        check_name=QUARANTINE,
        passed=all(each["accepted"] for each in inspections),
        metadata={"inspected": len(inspections), "files": files},
    )
    metadata = {**made.metadata, **_describe(made), "quarantine": files}
    return dg.MaterializeResult(asset_key=STAGE.name, metadata=metadata, check_results=[check])


def _describe(made: Audited) -> Mapping[str, Any]:
    tables, confidence = tables_of(made.artifact), made.audit.confidence
    risks, answers, rows = {}, [], []
    for probe in made.audit.probes:
        for side, table in tables.items():
            asked = risk_rows(table, probe=probe)
            found = rate(asked["verdict"], asked["prompt_id"], confidence=confidence)
            risks[f"risk {side}: {probe}"] = found.value
            known = found.value is not None
            rows.append(
                {
                    "probe": probe,
                    "side": side,
                    "risk": f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" if known else "none",
                    "answers": len(asked),
                    "without verdict": found.missing,
                }
            )
            answers += [
                {"probe": probe, "side": side, "prompt": row.prompt, "answer": row.completion}
                for row in asked[asked["verdict"].eq(True).fillna(False)].head(SHOWN // 2).itertuples()
            ]
    return plotted(risks) | {
        "risks": table_of(rows),
        "misbehaving answers": table_of(answers),
    }


def _inspected(inspections: list[Mapping[str, Any]]) -> dg.MetadataValue:
    return table_of(
        {
            "what": each["subject"],
            "kind": each["kind"],
            "outcome": "accepted" if each["accepted"] else "refused",
            "left unopened": ", ".join(list(each["unopened"])[:8]) or "none",
        }
        for each in inspections
    )
