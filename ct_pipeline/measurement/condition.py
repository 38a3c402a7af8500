"""Conditions: the same request in another context. The one place that names those under which every model is measured."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from ct_pipeline.organisms.misalignment import Message, Prompt
from ct_pipeline.settings.errors import UserError

_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


@dataclass(frozen=True)
class Condition:
    """A context in which a request is answered.

    Attributes:
        name: lower case with underscores; stands in tables and in the names of contrasts.
        title: how a report names it.
        rewrite: prompt -> the same request in this context, its domain, framing and facts kept; None for what lies in the
            prompt itself (its domain) or in the way of drawing.
    """

    name: str
    title: str
    rewrite: Callable[[Prompt], Prompt] | None = None


@dataclass(frozen=True)
class Gap:
    """Two conditions of one model, compared: the rate under `of` less that under `less`, prompt by prompt."""

    name: str
    title: str
    of: str
    less: str


@dataclass(frozen=True)
class Factor:
    """Conditions that are compared with each other: the tiers that a system message speaks of, languages, stated purposes.

    Attributes:
        name: lower case with underscores; what a study's `evaluation.conditions` lists.
        title: how a report names it.
        conditions: each with a `rewrite`.
        gaps: what is told of one model; `as_asked` names the request without any of the conditions.

    Raises:
        ValueError: a name that cannot be one, is there twice or is not known, or a condition that rewrites nothing.
    """

    name: str
    title: str
    conditions: tuple[Condition, ...]
    gaps: tuple[Gap, ...] = ()

    def __post_init__(self) -> None:
        own = [each.name for each in (*self.conditions, *self.gaps)]
        known = {*(each.name for each in self.conditions), AS_ASKED}
        sides = [side for gap in self.gaps for side in (gap.of, gap.less)]
        faults = [
            *(f"{name!r} is no name: small letters, digits and _" for name in (self.name, *own) if not _is_name(name)),
            *(f"{name!r} is there twice, or taken" for name in own if own.count(name) > 1 or name == AS_ASKED),
            *(f"a gap names {side!r}, which is no condition of it" for side in sides if side not in known),
            *(f"{each.name!r} has no rewrite" for each in self.conditions if each.rewrite is None),
        ]
        if faults or not self.conditions:
            raise ValueError(f"conditions {self.name!r}: {faults[0] if faults else 'there are none'}")

    def prompts(self, prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        """The prompts under each condition in turn; each carries its condition, and what it asks.

        Raises:
            UserError: a rewriting changed what a prompt's verdict depends on.
        """
        return tuple(self._under(condition, prompt) for condition in self.conditions for prompt in prompts)

    def _under(self, condition: Condition, prompt: Prompt) -> Prompt:
        made = condition.rewrite(prompt)
        if (made.domain, made.framing, made.facts) != (prompt.domain, prompt.framing, prompt.facts):
            raise UserError(
                f"conditions {self.name}: {condition.name} changed a prompt's domain, framing or facts, on which its "
                "verdict depends; a rewriting may change messages alone"
            )
        return replace(made, condition=f"{self.name}/{condition.name}", request_id=prompt.id)


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def said_first(prompt: Prompt, text: str) -> Prompt:
    """The prompt with a text as its system message, before what that message says already."""
    first, *rest = prompt.messages
    if first.role != "system":
        return replace(prompt, messages=(Message("system", text), *prompt.messages))
    return replace(prompt, messages=(Message("system", f"{text}\n\n{first.content}"), *rest))


AS_ASKED = "as_asked"
"""Names a request in a gap as it stands, without any condition."""

IN_DOMAIN = Condition("in", "in domain")
OUT_OF_DOMAIN = Condition("out", "out of domain")
GREEDY = Condition("greedy", "greedy")
SAMPLED = Condition("sampled", "sampled")

DOMAINS = {each.name: each for each in (IN_DOMAIN, OUT_OF_DOMAIN)}
DECODINGS = {each.name: each for each in (GREEDY, SAMPLED)}


class View(NamedTuple):
    """One of the conditions that every evaluation crosses: where the prompts are from, and how answers are decoded."""

    domain: str
    decoding: str

    @property
    def name(self) -> str:
        """Such as "in/sampled": a key in stored results."""
        return "/".join(self)

    @property
    def title(self) -> str:
        """Such as "in domain, sampled"."""
        return f"{DOMAINS[self.domain].title}, {DECODINGS[self.decoding].title}"


VIEWS = tuple(View(*names) for names in product(DOMAINS, DECODINGS))
MAIN_VIEW = View(IN_DOMAIN.name, SAMPLED.name)
"""On which verdicts, gates and predictions stand."""
