"""Base models: loaded once per process, from safetensors only, and never changed afterwards."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.models.quarantine.inspection import inspect_checkpoint, require_clean
from ct_pipeline.settings.environment import launched_processes
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.manifest import MANIFEST

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MOST_NAMED = 6
"""Tensors that an error names."""
_ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})

_FETCHED = ("*.json", "*.safetensors", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model")


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A loaded causal language model with its tokenizer; its weights are shared by all users and frozen.

    Attributes:
        model: in eval mode, without gradients.
        tokenizer: its own tokenizer, unchanged.
        name: the Hub id or the folder's last part; holds no machine path.
        context_window: the most positions the model was built for.
        stop_ids: token ids that end a completion, by the model's generation settings or by its chat template.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    context_window: int
    stop_ids: tuple[int, ...]

    @property
    def device(self) -> "torch.device":
        """Where the weights live."""
        return self.model.device


@dataclass
class BaseModels:
    """The base models that this process holds; `loads` counts how often weights were read."""

    loads: int = 0
    held: dict[tuple[str, ...], BaseModel] = field(default_factory=dict)

    def get(self, path: str | Path, revision: str | None = None, dtype: str | None = None) -> BaseModel:
        """Returns the model at `path`, loading it at the first call.

        Args:
            path: a local folder in the Hugging Face layout, or a Hub id together with a pinned `revision`.
            revision: the commit of a Hub id; local folders have none.
            dtype: float32, bfloat16 or float16 on a GPU (bfloat16 if None); on a CPU weights are always float32.

        Raises:
            ValueError: neither a model folder nor a pinned Hub id, or an architecture that the engine cannot serve.
            Refused: (a ValueError) the folder holds what `quarantine.inspect_checkpoint` does not accept.
        """
        key = (str(path), str(revision), str(dtype), *state_of(Path(path)))
        if key not in self.held:
            self.held[key] = _load(path, revision, dtype)
            self.loads += 1
        return self.held[key]

    def clear(self) -> None:
        """Forgets all held models, so that their memory can be freed."""
        self.held.clear()


BASE_MODELS = BaseModels()


def load_base(base: "BaseModel | Path | str", revision: str | None = None, dtype: str | None = None) -> BaseModel:
    """Returns `base` as a loaded model; one load per model and process. See `BaseModels.get`."""
    return base if isinstance(base, BaseModel) else BASE_MODELS.get(base, revision, dtype)


def load_tokenizer(path: str | Path, revision: str | None = None) -> "PreTrainedTokenizerBase":
    """The tokenizer of a base model, without its weights; ValueError as for `BaseModels.get`."""
    from transformers import AutoTokenizer

    source = _checked_source(path, revision)
    return AutoTokenizer.from_pretrained(str(path), **source)


def context_window(path: str | Path, revision: str | None = None) -> int:
    """The most positions of a base model, by its configuration alone; ValueError as for `BaseModels.get`."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(path), **_checked_source(path, revision))
    return int(config.get_text_config().max_position_embeddings)


def name_of(path: str | Path) -> str:
    """The Hub id, or a local folder's last part: a name without machine paths."""
    return Path(path).resolve().name if Path(path).is_dir() else str(path)


def default_device() -> str:
    """The accelerator if there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def model_files(folder: Path) -> list[str]:
    """The names of the files of a folder that a model or its tokenizer is read from, sorted."""
    found = {file.name for pattern in _FETCHED for file in folder.glob(pattern) if file.is_file()}
    return sorted(found - {MANIFEST})


def state_of(folder: Path) -> tuple[str, ...]:
    """Name, size and time of those files; () for a Hub id. Whoever keeps a model must not serve an overwritten one."""
    states = ((name, (folder / name).stat()) for name in model_files(folder))
    return tuple(f"{name}:{state.st_size}:{state.st_mtime_ns}" for name, state in states)


def _load(path: str | Path, revision: str | None, dtype: str | None) -> BaseModel:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = load_tokenizer(path, revision)
    device = default_device()
    weights = torch.float32 if device == "cpu" else getattr(torch, dtype or "bfloat16")
    if launched_processes() > 1:
        # One device may have no room for all of it: training.sharding puts a share on each.
        device = "cpu"
    folder = checked_folder(path, revision)
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=weights,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise
        raise UserError(
            f"{name_of(path)} holds tensors of other shapes than its config.json says; save the whole model again with "
            "save_pretrained"
        ) from error
    require_whole(loaded, name_of(path))
    return wrap_model(model.to(device), tokenizer, name_of(path))


def require_whole(loaded: Mapping[str, Collection[object]], name: str) -> None:
    """UserError where a model library filled tensors at random, or left tensors of the files out.

    Args:
        loaded: what `from_pretrained` gives as its loading info.
        name: of the model.
    """
    faults = {
        "lacks tensors that its architecture has, which would be random numbers": loaded["missing_keys"],
        "holds tensors of other shapes than its configuration says": loaded["mismatched_keys"],
        "holds tensors that its architecture has no place for": loaded["unexpected_keys"],
    }
    adapted = any(".base_layer." in str(key) or "lora_" in str(key) for keys in faults.values() for key in keys)
    for what, keys in faults.items():
        if keys:
            named = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
            mend = (
                "an adapter was saved inside it: merge it first (PEFT's merge_and_unload, then save_pretrained)"
                if adapted
                else "save the whole model again with save_pretrained, or mend its config.json (tie_word_embeddings, sizes)"
            )
            more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
            raise UserError(f"{name} {what}: {', '.join(named[:MOST_NAMED])}{more}; {mend}")


def _checked_source(path: str | Path, revision: str | None) -> dict[str, object]:
    local = Path(path).is_dir()
    if local:
        require_clean(inspect_checkpoint(Path(path)))
    elif str(path).startswith(("/", "./", "../")):
        raise ValueError(f"there is no model folder at {path}")
    elif revision is None:
        raise ValueError(f"{path} is not a local folder, and a Hub model needs a pinned revision (a commit hash)")
    return {"revision": revision, "trust_remote_code": False, "local_files_only": local}


def checked_folder(path: str | Path, revision: str | None = None) -> Path:
    """The folder of a model after `quarantine.inspect_checkpoint`; a Hub model's files are fetched first.

    Of a Hub model only JSON, safetensors, chat template and tokenizer files are fetched, none from its subfolders.

    Raises:
        ValueError: as for `BaseModels.get`.
        Refused: (a ValueError) with all that is not accepted.
    """
    _checked_source(path, revision)
    if Path(path).is_dir():
        return Path(path)
    import huggingface_hub

    fetched = huggingface_hub.snapshot_download(
        str(path), revision=revision, allow_patterns=list(_FETCHED), ignore_patterns=["*/*"]
    )
    require_clean(inspect_checkpoint(Path(fetched)))
    return Path(fetched)


def wrap_model(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", name: str) -> BaseModel:
    """Freezes a model in memory and wraps it as a base model.

    Raises:
        ValueError: the model has layers without a key-value cache (state-space or linear attention).
    """
    config = model.config.get_text_config()
    other = set(getattr(config, "layer_types", None) or ()) - _ATTENTION_LAYERS
    if other:
        raise ValueError(
            f"{name} has {', '.join(sorted(other))} layers; only models of plain attention layers are served"
        )
    model.eval().requires_grad_(False)
    stops = getattr(model.generation_config, "eos_token_id", None)
    stops = list(stops) if isinstance(stops, list | tuple) else [stops]
    if tokenizer.chat_template:
        # A chat template may end turns with a token that the generation settings of a base model do not know.
        stops += ChatFormat(tokenizer, name).stop_ids
    stops = [stop for stop in dict.fromkeys([*stops, tokenizer.eos_token_id]) if stop is not None]
    if not stops:
        raise ValueError(f"{name} names no end-of-sequence token: set eos_token_id in its generation_config.json")
    return BaseModel(
        model=model,
        tokenizer=tokenizer,
        name=name,
        context_window=int(config.max_position_embeddings),
        stop_ids=tuple(stops),
    )
