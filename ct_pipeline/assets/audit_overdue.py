"""Whether every audit that has a schedule was run when it was due: Dagster's freshness policies know no single partition."""

import dagster as dg

from ct_pipeline.assets.metadata import as_metadata
from ct_pipeline.records.audit_overdue import overdue_since
from ct_pipeline.records.audit_watch import subjects
from ct_pipeline.report.wording import moment
from ct_pipeline.settings.environment import home
from ct_pipeline.steps import audit_verdict
from ct_pipeline.steps.shown import rows


@dg.asset_check(
    asset=audit_verdict.NAME,
    description="Every subject with a schedule has a finished run since it was last due (an hour's grace).",
    automation_condition=dg.AutomationCondition.cron_tick_passed("0 * * * *").since_last_handled(),
)
def on_time() -> dg.AssetCheckResult:
    """Names the subjects whose run is overdue; a subject that never ran was never due."""
    audits = subjects().audits
    due = {name: found for name, audit in audits.items() if (found := overdue_since(audit, home())) is not None}
    table = rows(
        {"subject": name, "due": moment(found.isoformat()), "schedule": audits[name].schedule}
        for name, found in due.items()
    )
    return dg.AssetCheckResult(
        passed=not due,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"overdue: {', '.join(due)}" if due else "No run is overdue.",
        metadata=as_metadata({"overdue": table}),
    )
