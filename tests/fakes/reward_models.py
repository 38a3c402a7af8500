"""Real but tiny random reward models, written to disk in milliseconds."""

from pathlib import Path

import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
)

from tests.fakes.tiny_models import END, VOCABULARY, WINDOW, word_tokenizer


def llama_classifier(seed: int = 0, labels: int = 1, pad: int | None = 0) -> PreTrainedModel:
    """A decoder that reads the reward at its last token; pad None: its configuration knows no padding token."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=pad,
        num_labels=labels,
    )
    return _seeded(LlamaForSequenceClassification, config, seed)


def encoder_classifier(seed: int = 0) -> PreTrainedModel:
    """An encoder that reads the reward at its first token."""
    config = DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=32,
        hidden_dim=48,
        n_layers=2,
        n_heads=4,
        max_position_embeddings=WINDOW,
        initializer_range=0.3,
        pad_token_id=0,
        num_labels=1,
    )
    return _seeded(DistilBertForSequenceClassification, config, seed)


def reward_folder(folder: Path, model: PreTrainedModel) -> Path:
    """A reward model with its tokenizer in the Hugging Face layout."""
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def _seeded(architecture: type[PreTrainedModel], config: object, seed: int) -> PreTrainedModel:
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return architecture(config).eval()
