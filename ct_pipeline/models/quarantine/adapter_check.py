"""What a LoRA folder may hold: an allow-list of settings, and factors whose shapes fit; read before any library."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.models.quarantine.safetensors_header import Tensor, not_finite, read_header
from ct_pipeline.settings.errors import Refusal, Refused, shown
from ct_pipeline.store.untrusted import Limits, parse_json, read_file

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
PREFIX = "base_model.model."
LARGEST_RANK = 1024
LARGEST_WEIGHTS = 8_000_000_000
MOST_REFUSALS = 20
_CONFIG = Limits(size=1_000_000, depth=8, text=100_000)
_FACTOR = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]{1,250})\.lora_(?P<factor>[AB])\.weight")
_EMBEDDING = re.compile(r"lm_head|embed|\bwte\b|\bwpe\b", re.IGNORECASE)
_FLOATS = ("F64", "F32", "F16", "BF16")

_READ_KEYS = frozenset(
    {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules"}
)
_PATTERN = re.compile(r"[A-Za-z0-9_.]{1,250}")
"""A module's name or the end of one; PEFT takes any regular expression, of which a hostile one never ends."""
MERGE = (
    "leaving the key out would give another model; merge the adapter into its base (PEFT's merge_and_unload, then "
    "save_pretrained) and name that as a checkpoint"
)
_HARMLESS_KEYS = frozenset(
    [
        "base_model_name_or_path",
        "revision",
        "task_type",
        "inference_mode",
        "exclude_modules",
        "lora_dropout",
        "layers_to_transform",
        "layers_pattern",
        "peft_version",
        "qalora_group_size",
        "corda_config",
        "eva_config",
        "loftq_config",
        "runtime_config",
        "ensure_weight_tying",
        "lora_ga_config",
    ]
)
_NEUTRAL_VALUES: dict[str, tuple[object, ...]] = {
    "bias": ("none",),
    "megatron_core": ("megatron.core",),
    # Other initialisations (pissa, olora, ...) also change the base weights, so the deltas alone would be wrong.
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),
}


@dataclass(frozen=True)
class AdapterFiles:
    """The two files of an adapter as they were read once, and all that speaks against them.

    Attributes:
        config: the settings; {} where they could not be read.
        weights: the bytes of the safetensors file.
        modules: module of the base -> its factors "A" and "B".
        refusals: empty where the adapter may be used.
    """

    config: Mapping[str, object]
    weights: bytes
    modules: Mapping[str, Mapping[str, Tensor]]
    refusals: tuple[Refusal, ...]


def read_adapter_files(folder: Path, reach: Path | None = None) -> AdapterFiles:
    """Reads an adapter's settings and weights, each once, and checks them against the allow-list.

    Args:
        folder: holds `adapter_config.json` and `adapter_model.safetensors`; nothing else is opened.
        reach: where links may lead; the folder itself if None.
    """
    refusals: list[Refusal] = []
    config: object = {}
    weights, tensors = b"", {}
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            why = f"an adapter is {WEIGHTS_FILE} and {CONFIG_FILE}, nothing else is read"
            refusals.append(Refusal(f"holds no {name}", f"{folder}", why))
            continue
        try:
            if name == CONFIG_FILE:
                content = read_file(folder / name, _CONFIG.size, reach or folder)
                config = parse_json(content, folder / name, limits=_CONFIG)
                refusals += _config_faults(config, folder / name)
            else:
                weights = read_file(folder / name, LARGEST_WEIGHTS, reach or folder)
                tensors = read_header(weights, folder / name)
                why = "allowed: finite numbers"
                bad = (
                    Refusal("NaN or infinite weights", f"{folder / name}: {t}", why)
                    for t in not_finite(weights, tensors)
                )
                refusals += bad
        except Refused as error:
            refusals += error.refusals
    config = config if isinstance(config, dict) else {}
    modules, faults = _factors(tensors, config, folder / WEIGHTS_FILE)
    if not refusals and not faults and not modules:
        faults = [Refusal("holds no LoRA factors", f"{folder}", "allowed: at least one pair")]
    return AdapterFiles(config, weights, modules, tuple([*refusals, *faults][:MOST_REFUSALS]))


def misfits(
    files: AdapterFiles, layers: Mapping[str, tuple[int, int]], base: str, folder: Path, head: str | None = None
) -> tuple[Refusal, ...]:
    """Where factors do not fit the base model.

    Args:
        files: an adapter without refusals of its own.
        layers: linear layer of the base -> (inputs, outputs).
        base: the base model's name.
        folder: how refusals call the adapter.
        head: the module of the output embedding, which no adapter may change.
    """
    faults = []
    for module, pair in files.modules.items():
        if module == head:
            what, why = f"it changes the output embedding {module}", "only adapters of inner layers are accepted"
        elif module not in layers:
            what, why = "an adapter for another base", f"{base} has no linear layer {module}"
        else:
            inputs, outputs = layers[module]
            a, b = pair["A"].shape, pair["B"].shape
            if a[1] == inputs and b[0] == outputs:
                continue
            what = "an adapter for another base"
            why = f"{module} is {inputs} -> {outputs} in {base}, the adapter has factors {a} and {b}"
        faults.append(Refusal(what, f"{folder}", why))
    return tuple(faults[:MOST_REFUSALS])


def _config_faults(config: object, path: Path) -> Iterator[Refusal]:
    if not isinstance(config, dict):
        yield Refusal(f"a {type(config).__name__}", f"{path}", "allowed: a mapping of settings")
        return
    if config.get("peft_type") != "LORA":
        yield Refusal(f"a {shown(config.get('peft_type'))} adapter", f"{path}: peft_type", "only LORA is accepted")
    for key, value in config.items():
        known = key in _READ_KEYS or key in _HARMLESS_KEYS
        if key == "auto_mapping" and _names_own_module(value):
            continue
        if not known and value and value not in _NEUTRAL_VALUES.get(key, ()):
            yield Refusal(f"{key} = {shown(value)}", f"{path}: {key[:80]}", f"plain LoRA does not have it; {MERGE}")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= LARGEST_RANK:
        yield Refusal(f"the rank {shown(rank)}", f"{path}: r", f"allowed: 1 to {LARGEST_RANK}")
    if type(alpha) not in (int, float) or not abs(alpha) <= 1e6:
        yield Refusal(f"lora_alpha = {shown(alpha)}", f"{path}: lora_alpha", "allowed: a number up to a million")
    if type(config.get("use_rslora", False)) is not bool:
        yield Refusal(f"use_rslora = {shown(config['use_rslora'])}", f"{path}: use_rslora", "allowed: true or false")
    ranks = config.get("rank_pattern") or {}
    if not isinstance(ranks, dict) or not all(type(r) is int and 1 <= r <= LARGEST_RANK for r in ranks.values()):
        yield Refusal(f"rank_pattern = {shown(ranks)}", f"{path}: rank_pattern", f"allowed: ranks to {LARGEST_RANK}")
    yield from _alpha_faults(config.get("alpha_pattern") or {}, path)
    targets = config.get("target_modules") or []
    named = [targets] if isinstance(targets, str) else targets
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        yield Refusal(f"target_modules = {shown(targets)}", f"{path}: target_modules", "allowed: names of modules")
    elif any(_EMBEDDING.search(name) for name in named):
        why = "allowed: inner linear layers, no embedding and no output layer"
        yield Refusal(f"target_modules = {shown(targets)}", f"{path}: target_modules", why)


def _names_own_module(value: object) -> bool:
    """Whether an auto_mapping names a class of transformers itself, which is how plain LoRA of unknown tasks is saved."""
    return isinstance(value, dict) and str(value.get("parent_library", "")).startswith("transformers.models.")


def _alpha_faults(alphas: object, path: Path) -> Iterator[Refusal]:
    where = f"{path}: alpha_pattern"
    if not isinstance(alphas, dict):
        yield Refusal(f"alpha_pattern = {shown(alphas)}", where, "allowed: a mapping of modules to numbers")
        return
    for name, alpha in alphas.items():
        if type(alpha) not in (int, float) or not abs(alpha) <= 1e6:
            yield Refusal(
                f"alpha_pattern of {shown(name)} = {shown(alpha)}", where, "allowed: a number up to a million"
            )
        if not _PATTERN.fullmatch(name):
            yield Refusal(f"the pattern {shown(name)}", where, f"allowed: names of modules, or their ends; {MERGE}")


def _factors(
    tensors: Mapping[str, Tensor], config: Mapping[str, object], path: Path
) -> tuple[dict[str, dict[str, Tensor]], list[Refusal]]:
    modules: dict[str, dict[str, Tensor]] = {}
    faults = []
    for name, tensor in tensors.items():
        found = _FACTOR.fullmatch(name)
        if not found:
            faults.append(Refusal("not a plain LoRA factor of a linear layer", f"{path}: {name}", "allowed: such only"))
        elif _EMBEDDING.search(found["module"]):
            why = "only adapters of inner layers are accepted"
            faults.append(Refusal("a factor of an embedding or output layer", f"{path}: {name}", why))
        elif tensor.dtype not in _FLOATS or len(tensor.shape) != 2 or 0 in tensor.shape:
            what = f"{tensor.dtype} of shape {tensor.shape}"
            faults.append(Refusal(what, f"{path}: {name}", f"allowed: matrices of {', '.join(_FLOATS)}"))
        else:
            modules.setdefault(found["module"], {})[found["factor"]] = tensor
    ranks = config.get("rank_pattern")
    allowed = [config.get("r"), *(ranks.values() if isinstance(ranks, dict) else ())]
    for module, pair in sorted(modules.items()):
        if set(pair) != {"A", "B"}:
            faults.append(Refusal("one of two LoRA factors", f"{path}: {module}", "allowed: A and B of every module"))
        elif pair["A"].shape[0] != pair["B"].shape[1] or pair["A"].shape[0] not in allowed:
            what = f"factors {pair['A'].shape} and {pair['B'].shape}"
            faults.append(Refusal(what, f"{path}: {module}", f"allowed by {CONFIG_FILE}: the rank {config.get('r')}"))
    return modules, faults


def scale_of(config: Mapping[str, object], rank: int, module: str = "") -> float:
    """What the product of a module's factors is multiplied with: its alpha / rank, or / √rank with use_rslora.

    Its alpha is that of the first entry of alpha_pattern that is its name or the end of it after a dot, as PEFT has it, else
    lora_alpha.
    """
    patterns = config.get("alpha_pattern") or {}
    alpha = next((a for name, a in patterns.items() if f".{module}".endswith(f".{name}")), config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
