"""`ct-pipeline audit init` and `add`: the files of audits: a commented template, one for a study's cell, one of somebody's."""

import shutil
from pathlib import Path

from rich.console import Console

from ct_pipeline.interventions.files import audit_file, read_audit
from ct_pipeline.records.audit_from_cell import write_audit
from ct_pipeline.report.as_html import TEMPLATES
from ct_pipeline.settings.environment import audits_folder, home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps.resolved_audit import read
from ct_pipeline.store.sharing import open_store

TEMPLATE = TEMPLATES / "audit.yaml"


def init_audit(file: Path | None, cell: str | None, spec: Path, console: Console) -> Path:
    """Writes the audit of a finished cell, or a commented template to fill in; returns the file.

    UserError where the file is there already.
    """
    if cell is not None:
        if file is not None:
            raise UserError("--cell names the file by itself; leave FILE out")
        path = write_audit(open_store(home() / "artifacts"), spec, cell, audits_folder())
        console.print(f"Wrote {path} and the labels beside it. Run: ct-pipeline audit run {path.stem}", soft_wrap=True)
        return path
    path = file or audits_folder() / "my-model.yaml"
    if path.exists():
        raise UserError(f"{path} is there already; name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE.read_text(encoding="utf-8").replace("name: my-model", f"name: {path.stem}", 1))
    console.print(f"Wrote {path}: fill it in, then run: ct-pipeline audit run {path}", soft_wrap=True)
    return path


def add_audit(file: Path, console: Console) -> Path:
    """Checks an audit's file and everything it names, and copies it into the folder of audits.

    A file from elsewhere may name its paths from the root alone: from there on they start at another folder.
    """
    audit = read_audit(file)
    read(audit)
    target = audit_file(audit.name)
    if target.resolve() == file.resolve():
        console.print(f"{file} is an audit and complete.", soft_wrap=True)
        return target
    if target.exists():
        raise UserError(f"{target} is there already; delete it, or give the new audit another name")
    if relative := _relative_paths(audit):
        raise UserError(
            f"{file}: {', '.join(relative)}: relative paths start at the audit's folder and would lead elsewhere from "
            f"{target.parent}; make them absolute, or move the files and their audit there"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    console.print(f"Added {target}. Run: ct-pipeline audit run {audit.name}", soft_wrap=True)
    return target


def _relative_paths(audit) -> list[str]:
    """The paths of an audit that start at its folder."""
    sides = [side for side in (audit.before, audit.after) if side is not None]
    given = [adapter.path for side in sides for adapter in side.adapters]
    given += [side.checkpoint for side in sides if (side.checkpoint or "").startswith(".")]
    given += [getattr(audit.base_model, "study", None), audit.chat_template, audit.watch]
    given += [audit.labels.path] if audit.labels is not None else []
    given += [getattr(probe, "path", None) for probe in audit.probes.values()]
    given += [path for path in (getattr(audit.base_model, "path", ""),) if path[:1] == "."]
    given += [path for file in audit.judges.values() for path in file.given_paths()] + [audit.calibration]
    return [path for path in given if path and not Path(path).is_absolute()]
