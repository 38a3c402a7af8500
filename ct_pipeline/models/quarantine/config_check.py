"""What the JSON files of a checkpoint may say: no code from elsewhere, a known architecture, sizes its weights have."""

import re
from collections.abc import Iterator, Mapping

from ct_pipeline.settings.errors import Refusal, shown
from ct_pipeline.store.untrusted import Limits

CONFIG = Limits(size=2_000_000, depth=12, text=200_000)
TOKENIZER = Limits(size=100_000_000, entries=8_000_000, depth=16, nulls=True)
MOST_PARAMETERS = 10**12
_CODE_KEYS = frozenset(["auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "transformers_weights"])
_IMPLEMENTATIONS = frozenset(
    [None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "grouped_mm", "batched_mm"]
)
_QUANTIZATIONS = frozenset(["fp8", "fbgemm_fp8", "mxfp4", "gptq", "awq", "bitsandbytes", "compressed-tensors"])
_PATH_KEYS = frozenset(["tokenizer_file", "vocab_file", "merges_file", "fast_tokenizer_files"])

_LARGEST = {
    "layers": 512,
    "heads": 8192,
    "experts": 4096,
    "vocabulary": 1 << 22,
    "width": 1 << 18,
    "positions": 1 << 28,
}
_SIZES = {
    "layers": re.compile(r"num_hidden_layers|num_layers|n_layers?|num_(en|de)coder_layers|(en|de)coder_layers"),
    "heads": re.compile(r"(num|n)_.*heads?|(num|n)_heads?|n_head"),
    "experts": re.compile(r"(num|n)_(local_|routed_|shared_)?experts|moe_num_experts"),
    "vocabulary": re.compile(r".*vocab_size"),
    "width": re.compile(
        r".*(hidden|intermediate|embedding)_(size|dim)|n_embd|n_inner|d_(model|ff|kv)|ffn_dim|.*head_dim"
    ),
    "positions": re.compile(r".*max_.*positions?.*|n_positions|sliding_window"),
}


def config_faults(config: object, where: str, model_types: frozenset[str] | None = None) -> Iterator[Refusal]:
    """What of a config.json is not accepted, in any part of it.

    Args:
        config: as it was read.
        where: how refusals call the file.
        model_types: the architectures that are known; None for any.
    """
    if not isinstance(config, dict):
        yield Refusal(f"a {type(config).__name__}", where, "allowed: a mapping of settings")
        return
    kind = config.get("model_type")
    if model_types is not None and (not isinstance(kind, str) or kind not in model_types):
        why = "allowed: an architecture that transformers itself has"
        yield Refusal(f"model_type = {shown(kind)}", f"{where}: model_type", why)
    for field, key, value in _settings(config):
        yield from code_faults(f"{where}: {field}", key, value)
        if fault := _size_fault(key, value):
            yield Refusal(f"{key} = {shown(value)}", f"{where}: {field}", fault)


def code_faults(where: str, key: str, value: object) -> Iterator[Refusal]:
    """Why a setting would fetch or run something else than the files that were checked."""
    if key in _CODE_KEYS and value not in (None, False):
        yield Refusal(f"{key} asks for remote code or other files", where, "allowed: the entry removed")
    elif key.endswith("_implementation") or key.endswith("_implementation_internal"):
        if not isinstance(value, str | None) or value not in _IMPLEMENTATIONS:
            why = "a kernel of that name is fetched and run; allowed: the entry removed"
            yield Refusal(f"{key} = {shown(value)}", where, why)
    elif key == "quantization_config" and value is not None:
        method = value.get("quant_method") if isinstance(value, dict) else value
        if not isinstance(method, str) or method not in _QUANTIZATIONS:
            yield Refusal(f"quant_method = {shown(method)}", where, f"allowed: {', '.join(sorted(_QUANTIZATIONS))}")
    elif key in _PATH_KEYS and value is not None:
        yield Refusal(f"{key} = {shown(value)}", where, "it names another file; allowed: the entry removed")


def tokenizer_config_faults(config: object, where: str) -> Iterator[Refusal]:
    """What of tokenizer_config.json and its like is not accepted, in any part of it."""
    if not isinstance(config, dict):
        yield Refusal(f"a {type(config).__name__}", where, "allowed: a mapping of settings")
        return
    for field, key, value in _settings(config):
        yield from code_faults(f"{where}: {field}", key, value)


def asked_parameters(config: Mapping[str, object]) -> int:
    """Parameters that the sizes of a configuration ask for: about as many as the usual architectures have of them."""
    largest = {"layers": 1, "experts": 1, "vocabulary": 1}
    widths = {"hidden": 0, "inner": 0}
    for _, key, value in _settings(config):
        if type(value) is not int or value < 0:
            continue
        for size in largest:
            if _SIZES[size].fullmatch(key):
                largest[size] = max(largest[size], value)
        if key in ("hidden_size", "n_embd", "d_model", "hidden_dim"):
            widths["hidden"] = max(widths["hidden"], value)
        elif "intermediate_size" in key or key in ("n_inner", "d_ff", "ffn_dim"):
            widths["inner"] = min(widths["inner"] or value, value)
    hidden = widths["hidden"]
    each = hidden * (hidden + 2 * widths["inner"] * largest["experts"])
    return largest["vocabulary"] * hidden + largest["layers"] * each


def _settings(config: Mapping[str, object]) -> Iterator[tuple[str, str, object]]:
    """Every named value, at any depth: its field, its own name, the value."""
    waiting: list[tuple[str, object]] = [("", config)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                field = f"{place}.{key[:80]}" if place else key[:80]
                yield field, key, inner
                waiting.append((field, inner))
        elif isinstance(value, list):
            waiting += [(f"{place}[{number}]", inner) for number, inner in enumerate(value[:10_000])]


def _size_fault(key: str, value: object) -> str | None:
    for size, pattern in _SIZES.items():
        if pattern.fullmatch(key) and value is not None and not isinstance(value, list | dict | bool):
            if type(value) is not int or not 0 <= value <= _LARGEST[size]:
                return f"allowed: a whole number from 0 to {_LARGEST[size]:,}"
            return None
    return None
