"""What a stranger's adapter, checkpoint or chat template holds, said in full before any of it is used.

An inspection opens regular files of known names only, reads JSON and safetensors headers with our own readers, and runs
nothing; a template is rendered in a process of its own. docs/SECURITY.md says what this excludes and what it cannot.
"""

import contextlib
import hashlib
import mmap
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.models.quarantine import config_check
from ct_pipeline.models.quarantine.adapter_check import CONFIG_FILE, WEIGHTS_FILE, misfits, read_adapter_files
from ct_pipeline.models.quarantine.safetensors_header import not_finite, read_header
from ct_pipeline.models.quarantine.template_probes import probe_template, stalls
from ct_pipeline.models.quarantine.template_syntax import LONGEST, syntax_faults
from ct_pipeline.settings.errors import Refusal, Refused, printable, shown
from ct_pipeline.store.untrusted import files_of, inside, read_file, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_TOKENIZER_SETTINGS = frozenset(["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
_TOKENIZER_TABLES = frozenset(["tokenizer.json", "vocab.json"])
_TEMPLATE = "chat_template.jinja"
_OPENED = (
    frozenset(["config.json", "generation_config.json", "chat_template.json", INDEX])
    | _TOKENIZER_SETTINGS
    | _TOKENIZER_TABLES
)
_TEXTS = frozenset(["merges.txt", "vocab.txt", "tokenizer.model", "spiece.model"])
_LARGEST_TEXT = 100_000_000
_KINDS = {
    "pickled weights": "bin pt pth pkl pickle ckpt joblib dill npy npz h5 hdf5 msgpack mar nemo",
    "a program": "py pyc pyo pyd so dll dylib exe sh bash bat cmd ps1 js mjs jar ipynb pth rb pl com msi whl",
    "an archive": "zip tar gz tgz bz2 xz zst 7z rar egg",
}
_KIND_OF = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}
_LARGEST_SHARD = 1 << 40
_VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}


@dataclass(frozen=True)
class Inspection:
    """What was found in one adapter, checkpoint or template.

    Attributes:
        subject: the folder's name, or what the caller calls the template; no machine path.
        kind: adapter, checkpoint or template.
        refusals: everything that is not accepted; empty where it may be used.
        unopened: files that were left alone -> what they are by their name (pickled weights, a program, ...).
        read: the files that were opened.
        notes: what a reader of the report may want to know: parameters, tensors, the template's fixed texts.
    """

    subject: str
    kind: str
    refusals: tuple[Refusal, ...] = ()
    unopened: Mapping[str, str] = field(default_factory=dict)
    read: tuple[str, ...] = ()
    notes: Mapping[str, object] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing was refused."""
        return not self.refusals

    def report(self) -> dict[str, object]:
        """The inspection as plain JSON, without control characters: an entry of the quarantine report."""
        return {
            "subject": printable(self.subject),
            "kind": self.kind,
            "accepted": self.clean,
            "refused": [refusal.as_json() for refusal in self.refusals],
            "unopened": {printable(name): kind for name, kind in self.unopened.items()},
            "read": [printable(name) for name in self.read],
            "notes": dict(self.notes),
        }


def require_clean(*inspections: Inspection) -> None:
    """Refused with the refusals of all inspections, if there are any."""
    if refusals := [refusal for inspection in inspections for refusal in inspection.refusals]:
        raise Refused(refusals)


def inspect_adapter(
    folder: Path, layers: Mapping[str, tuple[int, int]] | None = None, base: str = "the base model"
) -> Inspection:
    """Looks at a LoRA folder: its settings, its safetensors header, its numbers, and whether it fits the base.

    Args:
        folder: should hold `adapter_config.json` and `adapter_model.safetensors`; nothing else is opened.
        layers: linear layer of the base that an adapter may change -> (inputs, outputs), see
            `adapter_stack.adaptable_modules`; None if the base is not at hand.
        base: how refusals call the base model.
    """
    folder = Path(os.path.abspath(folder))
    listing = files_of(folder, within=reach_of(folder))
    files = read_adapter_files(folder, reach_of(folder))
    refusals = [*listing.refusals, *files.refusals]
    if layers is not None and not refusals:
        refusals += misfits(files, layers, base, folder)
    read = tuple(name for name in (CONFIG_FILE, WEIGHTS_FILE) if name in listing.files)
    notes: dict[str, object] = {}
    if not refusals:
        notes = {"rank": files.config.get("r"), "modules": len(files.modules)}
        if named := files.config.get("base_model_name_or_path"):
            notes["trained_on"] = printable(str(named))
        with _kept(refusals):
            notes |= _own_template(folder, listing.files)
    return Inspection(folder.name, "adapter", _named(refusals, folder), _unopened(listing.files, read), read, notes)


def inspect_checkpoint(folder: Path, numbers: bool = False) -> Inspection:
    """Looks at a full model in the Hugging Face layout; no library is given any of its files.

    Args:
        folder: should hold config.json, safetensors weights (with an index where there are several) and a tokenizer.
        numbers: whether all weights are read to find NaN and infinities: as long as reading the files takes.
    """
    folder = Path(os.path.abspath(folder))
    reach = reach_of(folder)
    listing = files_of(folder, within=reach)
    refusals = list(listing.refusals)
    here = {name: size for name, size in listing.files.items() if "/" not in name}
    documents: dict[str, object] = {}
    for name in sorted(_OPENED & set(here)):
        limits = config_check.TOKENIZER if name in _TOKENIZER_TABLES or name == INDEX else config_check.CONFIG
        with _kept(refusals):
            documents[name] = read_json(folder / name, limits, reach)
    for name in sorted(_TEXTS & set(here)):
        if here[name] > _LARGEST_TEXT:
            found = f"{here[name]:,} bytes"
            refusals.append(Refusal(found, f"{folder / name}", f"allowed: at most {_LARGEST_TEXT:,}"))
    if "config.json" not in here:
        why = "it is not a model folder in the Hugging Face layout"
        refusals.append(Refusal("holds no config.json", f"{folder}", why))
    elif "config.json" in documents:
        refusals += config_check.config_faults(documents["config.json"], f"{folder}/config.json", _model_types())
    with _kept(refusals):
        if _TEMPLATE in here:
            documents[_TEMPLATE] = read_file(folder / _TEMPLATE, LONGEST, reach).decode("utf-8", "replace")
    for name, template in _templates(documents):
        if fault := _stalls(template):
            refusals.append(Refusal(fault, f"{folder / name}", "allowed: a template that ends"))
    if CONFIG_FILE in here:
        why = "the adapter, and the base that it names, would be loaded unseen; allowed: the entry removed"
        refusals.append(Refusal("an adapter within a checkpoint", f"{folder / CONFIG_FILE}", why))
    for name in sorted((_TOKENIZER_SETTINGS | {"generation_config.json"}) & set(documents)):
        refusals += config_check.tokenizer_config_faults(documents[name], f"{folder / name}")
    with _kept(refusals):
        _check_shards(documents.get(INDEX), folder)
    refusals += _two_sets(documents.get(INDEX), here, folder)
    weights = sorted(name for name in here if name.endswith(".safetensors"))
    if not weights:
        why = "convert its weights, pickled weights are never read"
        refusals.append(Refusal("holds no safetensors file", f"{folder}", why))
    held = 0
    for name in weights:
        with _kept(refusals):
            held += _parameters(folder / name, numbers)
    config = documents.get("config.json")
    notes: dict[str, object] = {"parameters": held, **_template_digests(_templates(documents))}
    if isinstance(config, dict) and weights:
        refusals += _size_refusals(config_check.asked_parameters(config), held, folder)
    read = tuple(sorted({*documents, *weights}))
    left = _unopened({name: size for name, size in listing.files.items() if name not in _TEXTS}, read)
    return Inspection(folder.name, "checkpoint", _named(refusals, folder), left, read, notes)


def inspect_template(
    template: object,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    subject: str = "chat template",
    accepted: Sequence[str] = (),
) -> Inspection:
    """Looks at a chat template: how it is written, and what it makes of conversations, rendered in another process.

    Args:
        template: the Jinja text.
        tokenizer: the one whose added tokens the template may write.
        subject: how refusals call it.
        accepted: fixed texts of the template that a person has read and agrees with.
    """
    if not isinstance(template, str) or not template.strip():
        refusal = Refusal(f"{shown(template)}", subject, "allowed: the text of a Jinja template")
        return Inspection(subject, "template", (refusal,))
    faults = list(syntax_faults(template))
    notes: dict[str, object] = {}
    if not faults:
        variables, tokens = _VARIABLES, tuple(_VARIABLES.values())
        if tokenizer is not None:
            named = {
                name: getattr(tokenizer, name, None) for name in ("bos_token", "eos_token", "pad_token", "unk_token")
            }
            variables = {name: str(token) for name, token in named.items() if token is not None}
            tokens = [token.content for token in tokenizer.added_tokens_decoder.values()]
        findings = probe_template(template, variables, tokens, accepted)
        faults += findings.faults
        notes = {"markers": {shape: [printable(text) for text in texts] for shape, texts in findings.markers.items()}}
    why = "allowed: contents as they are, between fixed markers of turns; give a template without it (chat_template)"
    refusals = tuple(Refusal(fault, subject, why) for fault in faults[:20])
    return Inspection(subject, "template", refusals, notes=notes)


def reach_of(folder: Path) -> Path:
    """Where the links of a folder may lead: below itself, or in the Hub's cache below the model's own folder."""
    if folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir():
        return folder.parent.parent
    return folder


@lru_cache(maxsize=64)
def _stalls(template: str) -> str | None:
    # Tried only where it is written unusually, because it takes seconds.
    return stalls(template, _VARIABLES) if any(syntax_faults(template)) else None


def _templates(documents: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Every chat template of a folder with the file that holds it; one that is no text is no template."""
    for name in (_TEMPLATE, "chat_template.json", "tokenizer_config.json"):
        found = documents.get(name)
        found = found.get("chat_template") if isinstance(found, dict) else found
        entries = found if isinstance(found, list) else [{"template": found}]
        for entry in entries[:20]:
            if isinstance(entry, dict) and isinstance(entry.get("template"), str):
                yield name, entry["template"]


def _own_template(folder: Path, files: Mapping[str, int]) -> dict[str, object]:
    """The digest of a chat template that lies beside an adapter; it is never used, and whoever measures is told."""
    documents: dict[str, object] = {}
    reach = reach_of(folder)
    if _TEMPLATE in files:
        documents[_TEMPLATE] = read_file(folder / _TEMPLATE, LONGEST, reach).decode("utf-8", "replace")
    if "tokenizer_config.json" in files:
        documents["tokenizer_config.json"] = read_json(folder / "tokenizer_config.json", config_check.CONFIG, reach)
    return _template_digests(_templates(documents))


def _template_digests(templates: Iterable[tuple[str, str]]) -> dict[str, object]:
    digests = [hashlib.sha256(text.strip().encode()).hexdigest()[:16] for _, text in templates]
    return {"chat_templates": digests} if digests else {}


def _check_shards(index: object, folder: Path) -> None:
    if index is None:
        return
    where = f"{folder / INDEX}: weight_map"
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise Refused([Refusal(f"weight_map = {shown(shards)}", where, "allowed: tensor names and files")])
    refusals: list[Refusal] = []
    for name in dict.fromkeys(shown(shard) if not isinstance(shard, str) else shard for shard in shards.values()):
        with _kept(refusals):
            if not name.endswith(".safetensors"):
                raise Refused([Refusal(f"the file {shown(name)}", where, "allowed: safetensors files")])
            _inside_reach(folder, name, where)
        if len(refusals) >= 20:
            break
    if refusals:
        raise Refused(refusals)


def _two_sets(index: object, here: Mapping[str, int], folder: Path) -> Iterator[Refusal]:
    """A single weights file beside an index that does not name it: libraries silently take the first."""
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if SINGLE in here and isinstance(shards, dict) and SINGLE not in shards.values():
        why = f"the model library would read {SINGLE} and ignore the shards; remove what is stale"
        yield Refusal(f"two sets of weights: {SINGLE} and the shards of {INDEX}", f"{folder}", why)


def _inside_reach(folder: Path, name: str, where: str) -> None:
    reach = reach_of(folder)
    if reach == folder:
        inside(folder, name, where)
    elif "/" in name or not (folder / name).is_file():
        raise Refused([Refusal(f"the file {shown(name)}", where, "allowed: files of the folder itself")])


def _parameters(path: Path, numbers: bool) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb"):
        size = os.fstat(descriptor).st_size
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not 8 < size <= _LARGEST_SHARD:
            raise Refused([Refusal(f"{size:,} bytes", f"{path}", f"allowed: a file of 9 to {_LARGEST_SHARD:,} bytes")])
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
            tensors = read_header(content, path)
            broken = [name for _, name in zip(range(20), not_finite(content, tensors), strict=False)] if numbers else []
    if broken:
        raise Refused(
            Refusal("NaN or infinite weights", f"{path}: {name}", "allowed: finite numbers") for name in broken
        )
    return sum(tensor.elements for tensor in tensors.values())


def _size_refusals(asked: int, held: int, folder: Path) -> Iterator[Refusal]:
    found = f"sizes of about {asked:,} parameters, in files that hold {held:,}"
    if asked >= config_check.MOST_PARAMETERS:
        yield Refusal(found, f"{folder}/config.json", f"allowed: below {config_check.MOST_PARAMETERS:,}")
    elif asked > 8 * held + 1_000_000:
        # Packed weights hold up to eight parameters a number.
        yield Refusal(found, f"{folder}/config.json", "allowed: as many as there are weights")


def _model_types() -> frozenset[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return frozenset(CONFIG_MAPPING_NAMES)


def _unopened(files: Mapping[str, int], read: Sequence[str]) -> dict[str, str]:
    left = sorted(name for name in files if name not in read)
    return {name: _KIND_OF.get(name.rpartition(".")[2].lower(), "another file") for name in left}


def _named(refusals: Sequence[Refusal], folder: Path) -> tuple[Refusal, ...]:
    """Refusals whose places begin with the folder's name instead of its path."""
    return tuple(
        Refusal(refusal.what, refusal.where.replace(str(folder), folder.name, 1), refusal.why)
        for refusal in dict.fromkeys(refusals)
    )


@contextlib.contextmanager
def _kept(refusals: list[Refusal]) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        refusals += error.refusals
    except OSError as error:
        refusals.append(Refusal(f"{error.strerror}", f"{error.filename}", "allowed: a readable file"))
