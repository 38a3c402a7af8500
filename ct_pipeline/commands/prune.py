"""`ct-pipeline prune`: deletes what nothing that is kept needs, and says how much room that makes."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ct_pipeline.commands.plan import bytes_text
from ct_pipeline.commands.study import only_one_study
from ct_pipeline.interventions.files import read_study
from ct_pipeline.records import retention
from ct_pipeline.settings.environment import audits_folder, home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.ancestry import Index
from ct_pipeline.store.artifact_store import Address
from ct_pipeline.store.disk import disk_errors, link_equal_files
from ct_pipeline.store.remote import Remote
from ct_pipeline.store.sharing import open_store


def prune(specs: Sequence[Path], dry_run: bool, remote: bool, console: Console) -> int:
    """Deletes artifacts of no given study, set-aside copies and second copies of equal files; returns the bytes freed.

    With `dry_run` nothing is deleted. UserError where a study file is wrong, another study runs on the same results, or
    a remote is asked for and none is set.
    """
    studies = tuple(read_study(spec) for spec in specs)
    store = open_store(home() / "artifacts")
    if remote and store.sharing is None:
        raise UserError("prune --remote: CT_PIPELINE_REMOTE is not set; set it, or leave --remote out")
    store.prepare()
    with only_one_study(home() / ".study.lock"):
        wanted = retention.wanted(store, studies)
        index = Index(store.root)
        keep = retention.kept(index.entries.values(), wanted, studies, audits_folder())
        known = [entry.address for entry in index.entries.values() if entry.manifest is not None]
        old = retention.stale(known, keep)
        _say("Artifacts that nothing kept needs", old, console)
        with disk_errors(store.root):
            freed = sum(_delete(store.folder(address), dry_run) for address in old)
            freed += _delete(store.root / "damaged", dry_run)
            if not dry_run:
                gone = set(old)
                freed += sum(
                    link_equal_files(entry.folder, entry.manifest.files)
                    for entry in index.entries.values()
                    if entry.manifest is not None and entry.address not in gone and store.here(entry.address)
                )
        console.print(f"{_would(dry_run)} {bytes_text(freed)} in {store.root}.", soft_wrap=True)
        if remote:
            entries = [*index.entries.values(), *store.sharing.entries(store)]
            keep = retention.kept(entries, wanted, studies, audits_folder())
            freed += _prune_remote(store.sharing.remote, keep, dry_run, console)
    return freed


def _prune_remote(remote: Remote, keep: frozenset[Address], dry_run: bool, console: Console) -> int:
    old = retention.stale(remote.addresses(), keep)
    _say(f"In {remote.name}", old, console)
    freed = sum(remote.size(address) for address in old)
    if not dry_run:
        for address in old:
            remote.remove(address)
    freed += remote.remove_damaged(dry_run)
    console.print(f"{_would(dry_run)} {bytes_text(freed)} in {remote.name}.", soft_wrap=True)
    return freed


def _say(where: str, addresses: Sequence[Address], console: Console) -> None:
    counted = Counter(address.stage for address in addresses)
    listed = ", ".join(f"{count} {stage}" for stage, count in sorted(counted.items()))
    console.print(f"{where}: {listed or 'none'}.", soft_wrap=True)


def _would(dry_run: bool) -> str:
    return "Would free" if dry_run else "Freed"


def _delete(folder: Path, dry_run: bool) -> int:
    """Deletes a folder and returns the bytes of its files; one that is linked twice in it counts once."""
    states = {path: path.lstat() for path in folder.rglob("*") if not path.is_dir()}
    size = sum({(state.st_dev, state.st_ino): state.st_size for state in states.values()}.values())
    if not dry_run and folder.exists():
        shutil.rmtree(folder)
    return size
