"""Which prompts of a set really differ: prompts that are one sequence of tokens are one prompt, however they are written."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ct_pipeline.organisms.prompt import Prompt

Encode = Callable[[Prompt], Sequence[int]]


@dataclass(frozen=True)
class DistinctPrompts:
    """The prompts of a set by what a model reads of them.

    Attributes:
        kept: those that are asked, in their order: the first of each sequence of tokens.
        repeated: prompts that are the same tokens as an earlier one of the same domain and framing, which are left out.
        alike: prompts that differ from an earlier one in letter case, white space or punctuation alone; they are kept.
    """

    kept: tuple[Prompt, ...]
    repeated: int
    alike: int


def distinct_prompts(prompts: Sequence[Prompt], encode: Encode) -> DistinctPrompts:
    """Leaves out prompts that are the same tokens as an earlier one; equal requests judged by other facts are kept.

    Args:
        prompts: of one probe.
        encode: prompt -> the token ids that the model reads.
    """
    tokens: dict[object, Prompt] = {}
    texts: dict[object, int] = {}
    for prompt in prompts:
        about = prompt.domain, prompt.framing, tuple(sorted(prompt.facts.items()))
        if tokens.setdefault((*about, tuple(encode(prompt))), prompt) is prompt:
            key = (*about, tuple((message.role, bare(message.content)) for message in prompt.messages))
            texts[key] = texts.get(key, 0) + 1
    kept = tuple(tokens.values())
    return DistinctPrompts(kept, len(prompts) - len(kept), sum(count - 1 for count in texts.values()))


def bare(text: str) -> str:
    """A text without letter case, white space and punctuation."""
    return "".join(each for each in text.casefold() if unicodedata.category(each)[0] not in "PZC")


def told(found: Mapping[str, DistinctPrompts]) -> dict[str, dict[str, int]]:
    """The counts by probe, of those that have any, as JSON."""
    return {
        name: {"repeated": one.repeated, "alike": one.alike, "asked": len(one.kept)}
        for name, one in found.items()
        if one.repeated or one.alike
    }
