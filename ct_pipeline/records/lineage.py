"""Which artifact a person means, and what is to be read of it: settings, seeds, data, prompts, template, adapters, code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ct_pipeline.records import study_report
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import evaluation
from ct_pipeline.store.ancestry import Chain, Entry, Index, Step
from ct_pipeline.store.artifact_store import Address
from ct_pipeline.store.manifest import MANIFEST, Manifest, hash_file

LOOKED_FOR = (
    "an artifact's folder or a file in it, its fingerprint or the beginning of it, stage/subject/variant as in "
    "evaluation/tiny-sycophancy-40/bct, organism/method, or a file of a report"
)
SHORTEST_FINGERPRINT = 4
ADAPTER_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Facts:
    """What a reader is told of one artifact; a mapping is empty where there is nothing of its kind.

    Attributes:
        seeds, digests, judge: settings by their dotted name: seeds; digests of rows and prompts; who judged or scored.
        settings: all other settings by their dotted name.
        template: digest of the chat template; None where none was recorded.
        weights: weight file -> SHA-256.
        versions: package -> version.
    """

    seeds: Mapping[str, object]
    digests: Mapping[str, object]
    judge: Mapping[str, object]
    settings: Mapping[str, object]
    template: str | None
    weights: Mapping[str, str]
    versions: Mapping[str, str]


def facts(manifest: Manifest) -> Facts:
    """What a manifest tells, sorted by what it answers."""
    seeds, digests, judge, others = {}, {}, {}, {}
    for name, value in _flat("", manifest.settings):
        first, last = name.partition(".")[0], name.rpartition(".")[2]
        if last in ("seed", "seeds"):
            seeds[name] = value
        elif _is_digest(value):
            digests[name] = value
        elif first in ("judge", "scorer", "reward", "rubric"):
            judge[name] = value
        else:
            others[name] = value
    return Facts(
        seeds=seeds,
        digests=digests,
        judge=judge,
        settings=others,
        template=manifest.record.get("template"),
        weights={name: file.sha256 for name, file in manifest.files.items() if name.endswith(ADAPTER_SUFFIX)},
        versions=manifest.provenance.get("versions", {}),
    )


def other_versions(chain: Chain) -> Mapping[Address, Mapping[str, tuple[str | None, str | None]]]:
    """Per artifact, the packages whose version is not that of the chain's first one: (here, there)."""
    told = {address: facts(step.manifest).versions for address, step in chain.steps.items() if step.manifest}
    first = told.get(chain.root, {})
    return {
        address: {
            name: (versions.get(name), first.get(name))
            for name in sorted({*first, *versions})
            if versions.get(name) != first.get(name)
        }
        for address, versions in told.items()
    }


def document(chain: Chain) -> dict[str, object]:
    """The chain as JSON: whole manifests, what was found of every input, and all that is broken."""
    return {
        "artifact": asdict(chain.root),
        "broken": list(chain.faults),
        "steps": [_step_document(step) for step in chain.steps.values()],
    }


def _step_document(step: Step) -> dict[str, object]:
    return {
        "address": asdict(step.address),
        "folder": str(step.folder),
        "content": step.manifest and step.manifest.digest,
        "faults": list(step.faults),
        "inputs": [asdict(link) for link in step.links],
        "external": [asdict(file) for file in step.external],
        "manifest": step.manifest and asdict(step.manifest),
    }


def find_artifact(artifacts: Path, text: str) -> tuple[Index, Address]:
    """The store and the artifact that a person's words name; of several ages of one, the newest.

    Args:
        artifacts: the store's folder; another one where `text` is a folder of another store.
        text: see LOOKED_FOR.

    Raises:
        UserError: nothing, or more than one thing, is meant.
    """
    path = Path(text)
    if path.exists():
        holder = next((each for each in (path, *path.parents) if (each / MANIFEST).is_file()), None)
        if holder is not None:
            folder = holder.absolute()
            index = Index(folder.parents[3])
            return index, Address(*folder.relative_to(index.root).parts)
        index = Index(artifacts)
        return index, _of_report_file(index, path)
    index = Index(artifacts)
    named = [entry for entry in index.entries.values() if _names(text.strip("/"), entry.address)]
    if not named:
        raise UserError(f"{text}: no artifact in {index.root} has that name; give {LOOKED_FOR}")
    return index, _one(text, named).address


def _names(text: str, address: Address) -> bool:
    parts = text.split("/")
    if len(parts) == 1:
        return len(text) >= SHORTEST_FINGERPRINT and address.fingerprint.startswith(text)
    place = [address.stage, address.subject, address.variant]
    if len(parts) == 4:
        return parts[:3] == place and address.fingerprint.startswith(parts[3])
    whole = parts in (place, place[1:])
    return whole or (len(parts) == 2 and parts == place[:2] and address.variant == "-")


def _one(text: str, entries: Sequence[Entry]) -> Entry:
    """The newest artifact of the one place that was meant; an organism and a method name the cell's evaluation."""
    places = {(entry.address.stage, entry.address.subject, entry.address.variant) for entry in entries}
    if len(places) > 1:
        entries = [entry for entry in entries if entry.address.stage == evaluation.NAME and text.count("/") == 1]
    if not entries:
        listed = ", ".join("/".join(place) for place in sorted(places))
        raise UserError(f"{text} may be any of: {listed}; name one of them")
    return max(entries, key=lambda entry: entry.finished.timestamp() if entry.finished else 0.0)


def _of_report_file(index: Index, path: Path) -> Address:
    """The evaluation behind a cell's page, or the report that another file is of; known by content."""
    if not path.is_file():
        raise UserError(f"{path}: a folder that is no artifact; give {LOOKED_FOR}")
    content = hash_file(path)
    written = [
        (entry, name)
        for entry in index.entries.values()
        if entry.manifest
        for name, file in entry.manifest.files.items()
        if file == content and path.as_posix().endswith(name)
    ]
    if not written:
        raise UserError(
            f"{path}: no artifact in {index.root} wrote a file of this name and content: it is of another store, of an "
            f"artifact that was removed, or was changed; give {LOOKED_FOR}"
        )
    report, name = max(written, key=lambda found: found[0].manifest.provenance["finished"])
    cell = name.removeprefix("cells/").removesuffix(".html")
    digest = report.manifest.inputs.get(f"cell {cell}")
    if report.address.stage != study_report.NAME or digest is None:
        return report.address
    behind = [
        entry
        for entry in index.by_digest.get(digest, ())
        if (entry.address.stage, entry.address.subject, entry.address.variant) == (evaluation.NAME, *cell.split("/"))
    ]
    if not behind:
        raise UserError(
            f"{path}: the evaluation behind this page (content {digest[:12]}) is not in {index.root} any more"
        )
    return _one(cell, behind).address


def _flat(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    else:
        yield prefix, value


def _is_digest(value: object) -> bool:
    """Whether a setting is a digest of rows or files: twenty hex digits or more."""
    return isinstance(value, str) and len(value) >= 20 and not set(value) - set("0123456789abcdef")
