"""The files that audits read, as Dagster sees them: not made here, but looked at, with a data version per subject."""

import dagster as dg

from ct_pipeline.partitions import audit_subject
from ct_pipeline.records.audit_watch import files_of_audit, subjects

GROUP = "audit"


@dg.observable_source_asset(
    partitions_def=audit_subject,
    group_name=GROUP,
    description="The file of each audit and all that it names: models, adapters, labels, probes, template. Observing "
    "it puts down the hash of each registered subject's settings and files; the sensor audit_subjects does so by itself.",
)
def audit_inputs(context: dg.OpExecutionContext) -> dg.DataVersionsByPartition:
    """The hash of settings and contents of every registered subject that is there."""
    known = set(context.instance.get_dynamic_partitions(audit_subject.name))
    found = {name: files_of_audit(audit) for name, audit in subjects().audits.items() if name in known}
    return dg.DataVersionsByPartition({name: files.digest() for name, files in found.items() if not files.missing})
