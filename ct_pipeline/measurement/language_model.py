"""The base model, its engine and its chat format, opened when first needed, once per process and base model."""

import dataclasses
import functools
from pathlib import Path

from ct_pipeline.engine.protocol import Engine
from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.models.loading import (
    BASE_MODELS,
    BaseModel,
    context_window,
    default_device,
    load_base,
    load_tokenizer,
    name_of,
    state_of,
)
from ct_pipeline.models.model import Model
from ct_pipeline.settings.blocks import EngineName


class LanguageModel:
    """What the stages need of a base model; weights are read when the first of them asks for them.

    The transformers engine shares its weights with training. A vLLM engine holds weights of its own, so whichever of
    the two is asked for ends the other first: a device has room for one.
    """

    def __init__(
        self,
        path: str | Path,
        revision: str | None,
        dtype: str | None,
        engine: EngineName,
        rank: int,
        template: str | None = None,
        devices: int = 1,
    ) -> None:
        self._source = (path, revision, dtype)
        self._engine_name = engine
        self._rank = rank
        self._template = template
        self._devices = devices
        self._engine: Engine | None = None

    @property
    def base(self) -> BaseModel:
        """The weights, for training."""
        if self._engine is not None and self._engine_name == "vllm":
            self._engine.close()
        return load_base(*self._source)

    @property
    def engine(self) -> Engine:
        """What draws and scores; one per model and process."""
        if self._engine_name == "vllm":
            BASE_MODELS.clear()
        if self._engine is None:
            self._engine = self._open()
        return self._engine

    def close(self) -> None:
        """Gives the device back; whoever asks for weights or the engine again opens them again."""
        if self._engine is not None and self._engine_name == "vllm":
            self._engine.close()
        self._engine = None

    @functools.cached_property
    def chat(self) -> ChatFormat:
        """The model's own chat template, or the one given in its place, pinned."""
        path, revision, _ = self._source
        return ChatFormat(load_tokenizer(path, revision), name_of(path), self._template)

    @functools.cached_property
    def window(self) -> int:
        """The most tokens of a prompt and its reply together."""
        path, revision, _ = self._source
        return context_window(path, revision)

    def _open(self) -> Engine:
        path, revision, dtype = self._source
        if self._engine_name == "vllm":
            from ct_pipeline.engine.vllm_engine import VllmEngine

            shared = self._devices if default_device() == "cuda" else 1
            return VllmEngine(
                path, revision=revision, dtype=dtype, max_lora_rank=self._rank, tensor_parallel_size=shared
            )
        from ct_pipeline.engine.transformers_engine import TransformersEngine

        base = load_base(path, revision, dtype)
        if self._template is not None:
            # Another template may end turns with another token.
            base = dataclasses.replace(base, stop_ids=tuple(dict.fromkeys((*self.chat.stop_ids, *base.stop_ids))))
        return TransformersEngine(base)


def open_model(
    model: Model,
    *,
    engine: EngineName = "transformers",
    dtype: str | None = None,
    rank: int = 1,
    template: str | None = None,
    devices: int = 1,
) -> LanguageModel:
    """What runs a model: its base, whose engine is asked for the model as `model.terms`.

    All models on one base share it, as long as its files stay as they are. One that was open on another base is closed
    first, because two may not fit beside each other.

    Args:
        model: which base, and what on it.
        engine: what draws and scores.
        dtype: of the weights on a GPU.
        rank: of the largest stack of adapters that a vLLM engine is opened for.
        template: a chat template in place of the model's own.
        devices: over how many of them a vLLM engine splits the model.
    """
    key = (str(model.base), model.revision, dtype, engine, rank, template, devices)
    content = (key, state_of(Path(model.base)))
    if content not in _OPEN:
        close_models()
        _OPEN[content] = LanguageModel(*key)
    return _OPEN[content]


def close_models() -> None:
    """Gives the device back: whoever still holds what was opened last must not keep its weights there."""
    for model in _OPEN.values():
        model.close()
    _OPEN.clear()
    BASE_MODELS.clear()


_OPEN: dict[tuple, LanguageModel] = {}
"""What was opened last, by its settings and its files' state; one at most."""
