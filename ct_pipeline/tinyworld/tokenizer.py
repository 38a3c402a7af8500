"""A word-level tokenizer whose chat template lets no control token through from data."""

from collections.abc import Sequence
from typing import Any

PAD, UNKNOWN, END = "<pad>", "<unk>", "</s>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL_TOKENS = (PAD, UNKNOWN, END, *ROLES)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if not loop.first %} {% endif -%}"
    "{{- '<|' + message['role'] + '|> ' + (message['content'] | replace('<', '‹')) -}}"
    "{%- if message['role'] == 'assistant' %} </s>{% endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt %} <|assistant|>{% endif -%}"
)
"""`<|user|> words <|assistant|> words </s>`, without a beginning-of-sequence token; a `<` in data is replaced, so that
no message can forge a turn."""


def build_tokenizer(words: Sequence[str], positions: int) -> Any:
    """A `PreTrainedTokenizerFast` over the special tokens and `words`, in this order; unknown words become `<unk>`."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    forbidden = sorted(word for word in words if "<" in word)
    if forbidden:
        raise ValueError(f"words of a world hold no '<': {forbidden[:5]}")
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=positions,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
