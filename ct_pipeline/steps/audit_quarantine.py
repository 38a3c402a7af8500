"""Inspects every file of an audit that a model library would open, before one does; what was found stays in the artifacts."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.models.loading import checked_folder, load_tokenizer
from ct_pipeline.models.quarantine.inspection import (
    Inspection,
    inspect_adapter,
    inspect_checkpoint,
    inspect_template,
)
from ct_pipeline.settings.audit import LOCAL, TinyWorldBase
from ct_pipeline.settings.errors import Refusal, Refused, UserError
from ct_pipeline.settings.judge import HuggingFaceJudge
from ct_pipeline.steps.resolved_audit import ResolvedAudit


def accepted(subject: ResolvedAudit) -> list[dict[str, object]]:
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


def inspected(subject: ResolvedAudit) -> list[dict[str, object]]:
    """What the quarantine says of each file, also of those that are refused; as far as it could look."""
    with contextlib.suppress(UserError):
        accepted(subject)
    return subject.quarantine or []


def _refused(subject: ResolvedAudit) -> list[Refusal]:
    return [Refusal(**each) for entry in subject.quarantine or () for each in entry["refused"]]


def _inspections(subject: ResolvedAudit) -> Iterator[Inspection]:
    audit = subject.audit
    sides = [side for side in (audit.before, audit.after) if side is not None]
    for folder in dict.fromkeys(term.adapter for side in sides for term in subject.adapters(side)):
        yield inspect_adapter(folder)
    for model in dict.fromkeys(_models(subject)):
        location = model.location
        yield inspect_checkpoint(
            location if isinstance(location, Path) else checked_folder(location, model.revision), numbers=True
        )


def _templates(subject: ResolvedAudit) -> Iterator[Inspection]:
    """The template given, and those that come with models; each is rendered with its model's own special tokens."""
    models, texts = dict.fromkeys(_models(subject)), subject.audit.accepted_texts
    if subject.template is not None and all(model.judges for model in models):
        yield inspect_template(subject.template, subject=subject.audit.chat_template, accepted=texts)
    for model in models:
        tokenizer = load_tokenizer(model.location, model.revision)
        own = subject.template is None or model.judges
        given = subject.audit.chat_template
        name = f"chat template of {model.name}" if own else f"{given}, with the tokens of {model.name}"
        yield inspect_template(tokenizer.chat_template if own else subject.template, tokenizer, name, texts)


@dataclass(frozen=True)
class _Model:
    """A model that was not pretrained here; `name` is how the audit names it, `judges` whether it is a judge's."""

    location: Path | str
    revision: str | None
    name: str
    judges: bool = False


def _models(subject: ResolvedAudit) -> Iterator[_Model]:
    audit = subject.audit
    sides = [side for side in (audit.before, audit.after) if side is not None]
    given = []
    if not isinstance(audit.base_model, TinyWorldBase) and any(side.checkpoint is None for side in sides):
        given.append((audit.base_model.path, audit.base_model.revision))
    given += [(side.checkpoint, side.revision) for side in sides if side.checkpoint is not None]
    yield from (_Model(subject.located(path), revision, path) for path, revision in given)
    for file in audit.judges.values():
        judge = file.judge
        if isinstance(judge, HuggingFaceJudge):
            location = file.place(judge.path) if judge.path.startswith(LOCAL) else judge.path
            yield _Model(location, judge.revision, judge.path, judges=True)
