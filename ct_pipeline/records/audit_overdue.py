"""Whether an audit that has a schedule was not run when it was due."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from ct_pipeline.records.audit_runs import runs
from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.cron import last_due

GRACE = timedelta(hours=1)
"""A run that is due may wait for others and takes its time."""


def overdue_since(audit: Audit, home: Path, now: datetime | None = None) -> datetime | None:
    """When a scheduled audit was last due, if no run was finished since then; else None.

    None, too, without a schedule and before the first finished run: nothing says when that was due.
    """
    if audit.schedule is None:
        return None
    due = last_due(audit.schedule, (now or datetime.now(UTC)) - GRACE)
    done = [run for run in runs(home, audit.name) if run["status"] == "done"]
    late = due is not None and done and datetime.fromisoformat(done[-1]["time"]) < due
    return due if late else None
