"""One run of an audit in this process, without Dagster: makes what is missing of its artifacts, and keeps the run's record."""

import time
from collections.abc import Callable
from pathlib import Path

from ct_pipeline.records import audit_runs
from ct_pipeline.records.audit_runs import Record
from ct_pipeline.runner.in_process import InProcess
from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.errors import Refused
from ct_pipeline.steps.audit_quarantine import accepted, inspected
from ct_pipeline.steps.catalog import AUDIT_STEPS
from ct_pipeline.steps.resolved_audit import ResolvedAudit, read
from ct_pipeline.store.artifact_store import ArtifactStore


def run_audit(store: ArtifactStore, audit: Audit, home: Path, watch: Callable[[str], None] = print) -> Record:
    """Runs an audit; unchanged inputs make nothing, and a record that says so.

    Args:
        store: holds the artifacts.
        audit: what is audited.
        home: the results folder.
        watch: called with what is being made.

    Raises:
        Refused: files of the audit are not accepted; a record of that is kept, too.
        UserError: anything else that a person can mend.
    """
    started = time.perf_counter()
    subject, work = resolved(store, audit, home), InProcess(store, watch)
    made, took = [], {}
    for step in AUDIT_STEPS:
        if step.find(store, None, subject) is None:
            work.make(step.name, None, [subject])
            made.append(step.name)
        took[step.name] = time.perf_counter() - started - sum(took.values())
    return audit_runs.record(store, subject, home, made, took)


def resolved(store: ArtifactStore, audit: Audit, home: Path) -> ResolvedAudit:
    """The audit with its files; where its answers are yet to be drawn, every file is inspected.

    Raises:
        Refused: files of the audit are not accepted; a record of that is kept.
        UserError: anything else that a person can mend.
    """
    started, subject = time.perf_counter(), None
    try:
        subject = read(audit)
        if AUDIT_STEPS[0].find(store, None, subject) is None:
            accepted(subject)
    except Refused as error:
        found = [] if subject is None else inspected(subject)
        audit_runs.record_refusal(audit.name, home, error.refusals, found, time.perf_counter() - started)
        raise
    return subject
