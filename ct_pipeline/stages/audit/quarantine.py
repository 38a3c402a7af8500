"""Inspects every file of an audit that a model library would open, before one does; what was found stays in the artifacts."""

from collections.abc import Iterator

from ct_pipeline.models.loading import checked_folder, load_tokenizer
from ct_pipeline.models.quarantine.inspection import (
    Inspection,
    inspect_adapter,
    inspect_checkpoint,
    inspect_template,
)
from ct_pipeline.stages.audit.subject import Subject
from ct_pipeline.study.audit_settings import LOCAL, HuggingFaceJudge, TinyWorldBase
from ct_pipeline.study.errors import Refusal, Refused


def accepted(subject: Subject) -> list[dict[str, object]]:
    """The quarantine report of an audit's files, one entry each; Refused with all refusals where one is not accepted.

    Files are looked at once per subject. What the tiny world pretrained itself is not a stranger's.
    """
    if subject.quarantine is None:
        subject.quarantine = [inspection.report() for inspection in _inspections(subject)]
        if not _refused(subject):
            # Only now may a tokenizer be opened.
            subject.quarantine += [inspection.report() for inspection in _templates(subject)]
    if refusals := _refused(subject):
        raise Refused(refusals)
    return subject.quarantine


def _refused(subject: Subject) -> list[Refusal]:
    return [Refusal(**each) for entry in subject.quarantine or () for each in entry["refused"]]


def _inspections(subject: Subject) -> Iterator[Inspection]:
    audit = subject.audit
    sides = [side for side in (audit.before, audit.after) if side is not None]
    for folder in dict.fromkeys(folder for side in sides for folder in subject.adapters(side)):
        yield inspect_adapter(folder)
    for given, revision in dict.fromkeys(_models(subject)):
        folder = audit.place(given) if given.startswith(LOCAL) else checked_folder(given, revision)
        yield inspect_checkpoint(folder, numbers=True)


def _templates(subject: Subject) -> Iterator[Inspection]:
    """The template given, and those that come with models; each is rendered with its model's own special tokens."""
    models, texts = dict.fromkeys(_models(subject)), subject.audit.accepted_texts
    if subject.template is not None and not models:
        yield inspect_template(subject.template, subject=subject.audit.chat_template, accepted=texts)
    for given, revision in models:
        tokenizer = load_tokenizer(subject.located(given), revision)
        own = subject.template is None or given == getattr(subject.audit.judge, "path", None)
        name = f"chat template of {given}" if own else f"{subject.audit.chat_template}, with the tokens of {given}"
        yield inspect_template(tokenizer.chat_template if own else subject.template, tokenizer, name, texts)


def _models(subject: Subject) -> Iterator[tuple[str, str | None]]:
    """Path and revision of every model that was not pretrained here."""
    audit = subject.audit
    sides = [side for side in (audit.before, audit.after) if side is not None]
    if not isinstance(audit.base_model, TinyWorldBase) and any(side.checkpoint is None for side in sides):
        yield audit.base_model.path, audit.base_model.revision
    yield from ((side.checkpoint, side.revision) for side in sides if side.checkpoint is not None)
    if isinstance(audit.judge, HuggingFaceJudge):
        yield audit.judge.path, audit.judge.revision
