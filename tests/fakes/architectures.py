"""Tiny random models of the decoder families that training serves, built from their real configuration classes."""

import torch
from transformers import (
    Gemma2Config,
    GenerationConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from ct_pipeline.models.loading import BaseModel, wrap_model
from tests.fakes.tiny_models import END, VOCABULARY, WINDOW, word_tokenizer

SLIDING = 6
"""Sliding window of the families that have one: shorter than most test prompts."""

_SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": END,
    "pad_token_id": 0,
}
_OWN: dict[str, tuple[type[PreTrainedConfig], dict[str, object]]] = {
    "llama": (LlamaConfig, {"tie_word_embeddings": True}),
    "gemma2": (Gemma2Config, {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": SLIDING}),
    "mistral": (MistralConfig, {"sliding_window": SLIDING}),
    "gpt_oss": (
        GptOssConfig,
        {
            "head_dim": 8,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": SLIDING,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {"head_dim": 8}),
}
ARCHITECTURES = tuple(_OWN)


def tiny_architecture(name: str, seed: int = 0) -> BaseModel:
    """A random model of one family as a loaded base: two layers, hidden size 32, the tests' vocabulary."""
    return wrap_model(random_model(name, seed), word_tokenizer(), f"tiny-{name}")


def random_model(name: str, seed: int, **settings: object) -> PreTrainedModel:
    """A random model of one family; `settings` go before those of its configuration here."""
    torch.set_num_threads(1)
    config_class, own = _OWN[name]
    config = config_class(**_SHARED | own | settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODEL_FOR_CAUSAL_LM_MAPPING[config_class](config)
    model.generation_config = GenerationConfig(eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id)
    return model
