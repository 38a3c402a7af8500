"""Tiny random models on disk that read any text: a token a byte, and a chat template in the manner of each family."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.fakes.architectures import random_model

WINDOW = 4096
_YARN = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False}
"""Positions of gpt-oss; vLLM reads no others of it."""
_REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"


@dataclass(frozen=True)
class Family:
    """Special tokens, padding and end first, and the template that writes them."""

    specials: tuple[str, ...]
    template: str


FAMILIES = {
    "llama": Family(
        ("<|pad|>", "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
        "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
        "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    ),
    "gemma2": Family(
        ("<pad>", "<end_of_turn>", "<bos>", "<start_of_turn>"),
        _REFUSES_SYSTEM
        + "<bos>{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}"
        "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ),
    "mistral": Family(
        ("<pad>", "</s>", "<s>", "[INST]", "[/INST]"),
        _REFUSES_SYSTEM + "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]{% else %} "
        "{{ m.content }}</s>{% endif %}{% endfor %}",
    ),
    "gpt_oss": Family(
        ("<|pad|>", "<|return|>", "<|start|>", "<|message|>", "<|channel|>", "<|end|>"),
        "{% for m in messages %}{% if m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
        "<|return|>{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant<|channel|>final<|message|>{% endif %}",
    ),
    "qwen2": Family(
        ("<|pad|>", "<|im_end|>", "<|im_start|>"),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
}


def family_folder(name: str, folder: Path) -> Path:
    """A random model of a family with its tokenizer, in the Hugging Face layout; it reads prompts of 4,000 bytes."""
    family = FAMILIES[name]
    tokenizer = _tokenizer(family)
    # vLLM's attention on a CPU wants heads of 32.
    heads = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    heads |= {"head_dim": 32} if name in ("gemma2", "gpt_oss") else {}
    heads |= {"query_pre_attn_scalar": 32} if name == "gemma2" else {}
    if name == "gpt_oss":
        heads["rope_parameters"] = {"rope_theta": 150000.0, "original_max_position_embeddings": WINDOW, **_YARN}
    sliding = {"sliding_window": 512} if name in ("gemma2", "mistral", "gpt_oss") else {}
    model = random_model(
        name,
        0,
        vocab_size=len(tokenizer),
        max_position_embeddings=WINDOW,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **heads,
        **sliding,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(family: Family) -> PreTrainedTokenizerFast:
    alphabet = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family.specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=family.specials[0],
        eos_token=family.specials[1],
        additional_special_tokens=list(family.specials[2:]),
        chat_template=family.template,
    )
