"""What a store keeps: the work of the studies that are given, of audits, and all that the lineage of those leads to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ct_pipeline.records import study_report
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import STUDY_STEPS
from ct_pipeline.store.ancestry import Entry
from ct_pipeline.store.artifact_store import Address, ArtifactStore
from ct_pipeline.store.node import Node, StoreSnapshot

OF_AUDITS = "audit_"
"""How the stages of audits begin: they belong to no study and are never stale."""


def wanted(store: ArtifactStore, studies: Sequence[Study]) -> frozenset[Address]:
    """The addresses of all that makes up these studies as they are now, finished or not."""
    look = StoreSnapshot(store)
    seen: dict[Address, Node] = {}
    for study in studies:
        _collect((study_report.node(look, study),), seen)
        for stage in STUDY_STEPS:
            for key in stage.keys(study):
                _collect(stage.places(study, key), seen)
    return frozenset(seen)


def kept(
    entries: Iterable[Entry], addresses: frozenset[Address], studies: Sequence[Study], audits: Path
) -> frozenset[Address]:
    """What has to stay in a store: the addresses, each study's last report, audits and all those were made from.

    Args:
        entries: all that a store, or a store and its remote, hold.
        addresses: see `wanted`.
        studies: whose last reports stay.
        audits: folder of audit files; an artifact whose fingerprint one of them names stays, too.
    """
    files = sorted(audits.glob("*.y*ml")) if audits.is_dir() else []
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]

    def stays(entry: Entry) -> bool:
        place = entry.address
        return (
            place in addresses or place.stage.startswith(OF_AUDITS) or any(place.fingerprint in text for text in texts)
        )

    # What has no readable manifest is not known to be an artifact, and no lineage begins there.
    known = [entry for entry in entries if entry.manifest is not None]
    waiting = [entry for entry in known if stays(entry)] + list(_last_reports(known, studies))
    contents = _by_content(known)
    found: dict[int, Entry] = {}
    while waiting:
        entry = waiting.pop()
        if id(entry) not in found:
            found[id(entry)] = entry
            waiting += [other for content in _read(entry) for other in contents.get(content, ())]
    return addresses | {entry.address for entry in found.values()}


def stale(addresses: Iterable[Address], keep: frozenset[Address]) -> tuple[Address, ...]:
    """Those of the addresses that are of a study and not to be kept."""
    return tuple(
        sorted(
            (each for each in addresses if each not in keep and not each.stage.startswith(OF_AUDITS)),
            key=lambda address: tuple(vars(address).values()),
        )
    )


def _collect(nodes: Iterable[Node], seen: dict[Address, Node]) -> None:
    for node in nodes:
        if node.address not in seen:
            seen[node.address] = node
            _collect(node.inputs.values(), seen)


def _last_reports(entries: Sequence[Entry], studies: Sequence[Study]) -> Iterator[Entry]:
    for study in studies:
        of_study = (study_report.NAME, study.name)
        reports = [each for each in entries if (each.address.stage, each.address.subject) == of_study]
        yield from sorted(reports, key=lambda entry: str(entry.manifest.provenance.get("finished")))[-1:]


def _by_content(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Content digests, and hashes of single files, with the artifacts that have them."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        for content in {entry.digest, *(file.sha256 for file in entry.manifest.files.values())}:
            found.setdefault(content, []).append(entry)
    return found


def _read(entry: Entry) -> Iterator[str]:
    """The contents that an artifact was made from: those of its inputs, and files that were read by their path."""
    yield from entry.manifest.inputs.values()
    external = entry.manifest.record.get("external")
    for told in external.values() if isinstance(external, Mapping) else ():
        if isinstance(told, Mapping) and isinstance(told.get("sha256"), str):
            yield told["sha256"]
