"""Where audits are said: the audits folder, or one file from elsewhere."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from ct_pipeline.interventions.files import read_audit
from ct_pipeline.records.audit_watch import audit_of
from ct_pipeline.settings.audit import Audit


class AuditFiles(dg.ConfigurableResource):
    """The files of audits."""

    file: str = Field(default="", description="The one file that is audited; empty: all of the audits folder.")

    def audit_of(self, subject: str) -> Audit:
        """The audit of a subject: an audit's name, or name.adapter; SpecError names every mistake."""
        return read_audit(Path(self.file)) if self.file else audit_of(subject)
