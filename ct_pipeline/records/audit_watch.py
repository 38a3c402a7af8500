"""The audits of the audits folder as they are now, by subject, and whether a subject's files have changed.

A subject is an audit's name; where the audit watches a folder, each adapter in it is a subject of its own, `name.adapter`.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.interventions.files import audit_file, audit_files, read_audit
from ct_pipeline.settings.audit import LOCAL, Audit, JsonlProbes, Side, TinyWorldBase
from ct_pipeline.settings.environment import audits_folder
from ct_pipeline.settings.errors import Refused, SpecError, UserError, printable, printable_lines
from ct_pipeline.settings.judge import HuggingFaceJudge, OneToFiveRubric
from ct_pipeline.steps.resolved_audit import ADAPTER_FILES
from ct_pipeline.store.manifest import hash_file
from ct_pipeline.store.untrusted import files_of

LARGEST_HASHED = 50_000_000
"""Bytes of a file whose content is looked at; a larger one counts as changed when its size or time does."""

SETTLED_SECONDS = 3
"""A file that was written to more recently may not be whole yet."""


@dataclass(frozen=True)
class Subjects:
    """What the audits folder holds.

    Attributes:
        audits: subject -> its audit.
        owners: subject -> name of the audit whose file it comes from; its own but for adapters of a watched folder.
        unread: name of an audit or subject -> why it cannot be read.
    """

    audits: Mapping[str, Audit]
    owners: Mapping[str, str]
    unread: Mapping[str, str]

    def of(self, name: str) -> tuple[str, ...]:
        """The subjects that come from the file of an audit."""
        return tuple(subject for subject, owner in self.owners.items() if owner == name)

    def covers(self, subject: str) -> bool:
        """Whether a subject is there, or belongs to an audit that cannot be read at the moment."""
        return subject in self.audits or any(subject == name or subject.startswith(f"{name}.") for name in self.unread)


@dataclass(frozen=True)
class Files:
    """The files that an audit reads: what tells cheaply that they changed, and what says so for certain.

    Attributes:
        stamp: of settings, names, sizes and times of writing.
        missing: roles of files that are not there.
        unsettled: whether one was written to a moment ago.
    """

    stamp: str
    missing: tuple[str, ...]
    unsettled: bool
    _audit: Audit
    _paths: tuple[tuple[str, Path], ...]

    def digest(self) -> str:
        """Hash of settings and contents; other times of writing alone do not change it."""
        return _hash([_settings(self._audit), [(role, path.name, _content(path)) for role, path in self._paths]])


def subjects() -> Subjects:
    """Every audit that can be read and every whole adapter in a watched folder; what is wrong with the others."""
    audits: dict[str, Audit] = {}
    unread: dict[str, str] = {}
    for path in audit_files():
        try:
            audits[path.stem] = read_audit(path)
        except UserError as error:
            unread[path.stem] = printable_lines(error)
    owners = {name: name for name in audits}
    for name, audit in list(audits.items()):
        for folder in _watched(audit, unread):
            try:
                one = audit.with_adapter(folder)
            except SpecError as error:
                unread[f"{name}.{printable(folder.name)}"] = printable_lines(error)
                continue
            if one.name in audits:
                unread[one.name] = f"{folder}: there is an audit of the name {one.name}; rename one of the two"
            else:
                audits[one.name], owners[one.name] = one, name
    return Subjects(audits, owners, unread)


def audit_of(subject: str) -> Audit:
    """The audit of a subject as its file is now.

    Raises:
        SpecError: the file cannot be read.
        UserError: there is neither a file nor a watched adapter of that name.
    """
    if audit_file(subject).is_file():
        return read_audit(audit_file(subject))
    parts = subject.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        path, adapter = audit_file(".".join(parts[:cut])), ".".join(parts[cut:])
        if path.is_file():
            audit = read_audit(path)
            if audit.watch is not None and (folder := audit.place(audit.watch) / adapter).is_dir():
                return audit.with_adapter(folder)
    raise UserError(
        f"audit {subject}: {audits_folder()} holds no file {subject}.yaml and no audit that watches such an adapter; "
        f"there are: {', '.join(subjects().audits) or 'none'}"
    )


def files_of_audit(audit: Audit) -> Files:
    """The files of an audit, looked at without opening one."""
    paths = tuple(_paths(audit))
    stats = [(role, path, _stat(path)) for role, path in paths]
    known = [(role, path.name, size, written) for role, path, (size, written) in stats]
    missing = tuple(dict.fromkeys(role for role, _, (size, _) in stats if size is None))
    newest = max((written for *_, written in known if written is not None), default=0)
    return Files(
        stamp=_hash([_settings(audit), known]),
        missing=missing,
        unsettled=abs(time.time() - newest / 1e9) < SETTLED_SECONDS,
        _audit=audit,
        _paths=paths,
    )


def _watched(audit: Audit, unread: dict[str, str]) -> Iterator[Path]:
    """The adapter folders that an audit watches; one that lacks a file is still being copied."""
    if audit.watch is None:
        return
    watched = audit.place(audit.watch)
    try:
        folders = sorted(watched.iterdir())
    except OSError as error:
        unread[f"{audit.name}.*"] = (
            f"watch: {watched} cannot be read: {error.strerror}; make the folder, or leave out watch"
        )
        return
    for folder in folders:
        if folder.is_symlink():
            unread[f"{audit.name}.{printable(folder.name)}"] = (
                f"{printable(folder)}: found a symbolic link; copy the adapter"
            )
        elif all((folder / name).is_file() for name in ADAPTER_FILES):
            yield folder


def _settings(audit: Audit) -> dict[str, object]:
    """What a run depends on beside the files; when it is made does not count."""
    return audit.model_dump(mode="json", exclude={"schedule", "watch"})


def _paths(audit: Audit) -> Iterator[tuple[str, Path]]:
    """Role and path of every local file that the audit reads."""
    base = audit.base_model
    if isinstance(base, TinyWorldBase):
        yield "base model", audit.place(base.study)
    elif base.path.startswith(LOCAL):
        yield from _folder("base model", audit.place(base.path))
    for role, side in (("before", audit.before), ("after", audit.after or Side())):
        for number, given in enumerate(side.adapters, start=1):
            for name in ADAPTER_FILES:
                yield f"{role} adapter {number}", audit.place(given.path) / name
        if side.checkpoint is not None and side.checkpoint.startswith(LOCAL):
            yield from _folder(f"{role} checkpoint", audit.place(side.checkpoint))
    if audit.labels is not None:
        yield "labels", audit.place(audit.labels.path)
    if audit.chat_template is not None:
        yield "chat template", audit.place(audit.chat_template)
    for name, probe in audit.probes.items():
        if isinstance(probe, JsonlProbes):
            yield f"probe {name}", audit.place(probe.path)
    for role, file in audit.judges.items():
        if isinstance(file.judge, HuggingFaceJudge) and file.judge.path.startswith(LOCAL):
            yield from _folder(role, file.place(file.judge.path))
        if isinstance(file.rubric, OneToFiveRubric):
            yield f"rubric of {role}", file.place(file.rubric.file)
    if audit.calibration is not None:
        yield "calibration", audit.place(audit.calibration)


def _folder(role: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a model's folder; the folder alone where it is not there or not acceptable, which a run will say."""
    try:
        names = sorted(files_of(folder).files) if folder.is_dir() else []
    except Refused:
        names = []
    yield from ((role, folder / name) for name in names)
    if not names:
        yield role, folder


def _stat(path: Path) -> tuple[int | None, int | None]:
    try:
        found = path.stat()
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns


def _content(path: Path) -> object:
    size, written = _stat(path)
    if size is None or not path.is_file() or size > LARGEST_HASHED:
        return [size, written]
    return hash_file(path).sha256


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
