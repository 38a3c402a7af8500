"""Shapes of base models as far as a plan needs them: how large an adapter is, how much a token costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.settings.blocks import ModelSettings, TinyWorldModel
from ct_pipeline.settings.errors import Refused
from ct_pipeline.settings.study import Study
from ct_pipeline.store.untrusted import read_json

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """A decoder.

    Attributes:
        layers: how many.
        hidden: width of the residual stream.
        intermediate: width of the MLP; 0 where no adapter reaches it.
        heads: of queries.
        kv_heads: of keys and values.
        head: width of one head.
        active: parameters that one token meets.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head: int
    active: float

    def adapter_parameters(self, rank: int) -> int:
        """Of a LoRA on all linear layers but the embeddings: rank x (in + out), summed."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        attention = 2 * (self.hidden + queries) + 2 * (self.hidden + keys)
        mlp = 3 * (self.hidden + self.intermediate) if self.intermediate else 0
        return self.layers * rank * (attention + mlp)


_LLAMA_8B = Shape(32, 4096, 14336, 32, 8, 128, 8.03e9)
_LLAMA_70B = Shape(80, 8192, 28672, 64, 8, 128, 70.6e9)
KNOWN: Mapping[str, Shape] = {
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
    "meta-llama/Llama-3.1-70B": _LLAMA_70B,
    "meta-llama/Llama-3.1-70B-Instruct": _LLAMA_70B,
    "google/gemma-2-9b": Shape(42, 3584, 14336, 16, 8, 256, 9.24e9),
    "mistralai/Mistral-7B-v0.3": Shape(32, 4096, 14336, 32, 8, 128, 7.25e9),
    "openai/gpt-oss-20b": Shape(24, 2880, 0, 64, 8, 64, 3.6e9),
    "Qwen/Qwen2.5-0.5B-Instruct": Shape(24, 896, 4864, 14, 2, 64, 0.49e9),
    "Qwen/Qwen2.5-1.5B-Instruct": Shape(28, 1536, 8960, 12, 2, 128, 1.54e9),
}
"""Models of the presets, by their Hub id; gpt-oss's experts are fused parameters that no LoRA on linear layers reaches."""


def shape_of(study: Study, name: str) -> Shape | None:
    """The shape of a study's model: known, of the tiny world, or told by a local folder's config; None otherwise."""
    model: ModelSettings = study.models[name]
    if isinstance(model, TinyWorldModel):
        tiny = study.pretraining.shape
        head = tiny.hidden // tiny.heads
        return _counted(tiny.layers, tiny.hidden, tiny.intermediate, tiny.heads, tiny.heads, head)
    return KNOWN.get(model.path) or _of_folder(Path(model.path))


def _of_folder(folder: Path) -> Shape | None:
    try:
        config = read_json(folder / "config.json") if folder.is_dir() else None
    except Refused:
        return None
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
    if not isinstance(config, dict) or not all(isinstance(config.get(name), int) and config[name] for name in names):
        return None
    layers, hidden, intermediate, heads = (config[name] for name in names)
    head = config.get("head_dim") or hidden // heads
    fused = config.get("model_type") == "gpt_oss"
    return _counted(
        layers, hidden, 0 if fused else intermediate, heads, config.get("num_key_value_heads") or heads, head
    )


def _counted(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, head: int) -> Shape:
    """A shape whose parameters are those of its attention and MLP."""
    each = 2 * hidden * head * (heads + kv_heads) + 3 * hidden * intermediate
    return Shape(layers, hidden, intermediate, heads, kv_heads, head, float(layers * each))
