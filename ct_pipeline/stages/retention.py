"""What a store keeps: the work of the studies that are given, of audits, and all that the lineage of those leads to."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ct_pipeline.stages import study_report
from ct_pipeline.stages.node import Look, Node
from ct_pipeline.stages.pipeline import STAGES
from ct_pipeline.store.artifact_store import Address, ArtifactStore
from ct_pipeline.store.lineage import Entry, Index
from ct_pipeline.study.spec import Study

OF_AUDITS = "audit_"
"""How the stages of audits begin: they belong to no study and are never stale."""


def wanted(store: ArtifactStore, studies: Sequence[Study]) -> frozenset[Address]:
    """The addresses of all that makes up these studies as they are now, finished or not."""
    look = Look(store)
    seen: dict[Address, Node] = {}
    for study in studies:
        _collect((study_report.node(look, study),), seen)
        for stage in STAGES:
            for key in stage.keys(study):
                _collect(stage.nodes(study, key), seen)
    return frozenset(seen)


def kept(index: Index, addresses: frozenset[Address], studies: Sequence[Study], audits: Path) -> frozenset[Address]:
    """What has to stay in a store: the addresses, each study's last report, audits and all those were made from.

    Args:
        index: of the store.
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
    known = [entry for entry in index.entries.values() if entry.manifest is not None]
    waiting = [entry for entry in known if stays(entry)] + list(_last_reports(known, studies))
    found: set[Address] = set()
    while waiting:
        entry = waiting.pop()
        if entry.address not in found:
            found.add(entry.address)
            waiting += _made_from(index, entry)
    return frozenset(found | addresses)


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
        of_study = (study_report.STAGE, study.name)
        reports = [each for each in entries if (each.address.stage, each.address.subject) == of_study]
        yield from sorted(reports, key=lambda entry: str(entry.manifest.provenance.get("finished")))[-1:]


def _made_from(index: Index, entry: Entry) -> Iterator[Entry]:
    """Every artifact of the content of an input, and those that hold a file which was read by its path."""
    for digest in entry.manifest.inputs.values():
        yield from index.by_digest.get(digest, ())
    read = {told["sha256"] for told in entry.manifest.record.get("external", {}).values()}
    for other in index.entries.values() if read else ():
        if other.manifest is not None and any(file.sha256 in read for file in other.manifest.files.values()):
            yield other
