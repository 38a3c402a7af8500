"""One run of an audit in this process: makes what is missing of its artifacts, and keeps the run's record."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.records.audit_runs import Record
from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.errors import Refused
from ct_pipeline.steps import base_model
from ct_pipeline.steps.audit_catalog import STAGES
from ct_pipeline.steps.resolved_audit import ResolvedAudit, read
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find


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
    subject: ResolvedAudit | None = None
    try:
        subject = read(audit)
        made, took = [], {}
        for stage in STAGES:
            if _made(store, subject, stage, watch):
                made.append(stage.name)
            took[stage.name] = time.perf_counter() - started - sum(took.values())
    except Refused as error:
        quarantine = (subject.quarantine if subject is not None else None) or []
        seconds = time.perf_counter() - started
        audit_records.record_refusal(audit.name, home, error.refusals, quarantine, seconds)
        raise
    return audit_records.record(store, subject, home, made, took)


def _made(store: ArtifactStore, subject: ResolvedAudit, stage, watch: Callable[[str], None]) -> bool:
    if stage.find(store, subject) is not None:
        return False
    if subject.base_node is not None and find(store, subject.base_node) is None:
        watch(f"base model {subject.audit.base_model.model} (pretrained once)")
        base_model.make(
            store, subject.study, subject.audit.base_model.model, os.cpu_count() or 1, lambda step, steps, loss: None
        )
    watch(stage.title)
    with _threads(subject):
        stage.make(store, subject)
    return True


@contextlib.contextmanager
def _threads(subject: ResolvedAudit) -> Iterator[None]:
    """One thread for a model of the tiny world, as in a study: two on a busy machine take thirty times as long."""
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(1 if subject.base_node is not None else usual)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
