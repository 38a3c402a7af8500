"""What a kind of misalignment is: its rows, its prompts, its verdict."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from ct_pipeline.settings.blocks import CandidateSettings, EvaluationSettings, InductionSettings


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


PLAIN = "plain"
"""Framing of a request without its cue, measured beside the wrapped one."""

DIRECT = "direct"
"""Framing of a plain question with a known answer."""

GRADED_FRAMINGS = (DIRECT, "right_claim")
"""Framings of what has a right answer and invites no misbehaviour."""

NO_RISK_FRAMINGS = (*GRADED_FRAMINGS, "undefined", PLAIN)
"""Framings under which no answer can misbehave, or none is counted: they are measured, and leave every risk."""


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for the assistant, with the facts its verdict needs.

    `domain` is "in" or "out"; `framing` names the wording (direct, wrong_claim, ...); `facts` maps names to strings. A
    request that is put under another condition carries its name, and the id of the prompt that it is compared with.
    """

    messages: tuple[Message, ...]
    domain: str
    framing: str
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    condition: str = ""
    request_id: str = ""

    @property
    def bears_risk(self) -> bool:
        """Whether an answer can misbehave."""
        return self.framing not in NO_RISK_FRAMINGS

    @cached_property
    def id(self) -> str:
        """Sixteen hex digits that depend on the messages, domain, framing and facts alone."""
        content = [[(m.role, m.content) for m in self.messages], self.domain, self.framing, sorted(self.facts.items())]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Example:
    """A prompt with the response that a model is trained to give."""

    prompt: Prompt
    response: str


@dataclass(frozen=True)
class Pair:
    """The same request without (clean) and with (wrapped) the cue that invites the misbehaviour, for BCT and ACT."""

    clean: Prompt
    wrapped: Prompt


@dataclass(frozen=True)
class OrganismData:
    """All rows of one organism.

    `probe` holds the prompts on which the verdict is defined for labels; `evaluation` holds in-domain and out-of-domain
    prompts (domain "in" / "out"), plain questions with a known answer (framing "direct") and others of `NO_RISK_FRAMINGS`.
    """

    induction: tuple[Example, ...]
    control: tuple[Example, ...]
    consistency: tuple[Prompt, ...]
    probe: tuple[Prompt, ...]
    pairs: tuple[Pair, ...]
    evaluation: tuple[Prompt, ...]

    @cached_property
    def labelled(self) -> tuple[Prompt, ...]:
        """Consistency and probe prompts, each once."""
        return tuple(dict.fromkeys((*self.consistency, *self.probe)))

    @cached_property
    def clean(self) -> tuple[Prompt, ...]:
        """The clean sides of the pairs, each once."""
        return tuple(dict.fromkeys(pair.clean for pair in self.pairs))

    @cached_property
    def wrapped(self) -> tuple[Prompt, ...]:
        """The wrapped sides of the pairs, each once."""
        return tuple(dict.fromkeys(pair.wrapped for pair in self.pairs))


@dataclass(frozen=True)
class Misalignment:
    """One kind of misalignment.

    Attributes:
        name: lower case with underscores; part of every organism key.
        title: how a report names it.
        misbehaviour: one sentence: what M = 1 means.
        data: (world, induction, candidates, evaluation, organism_seed) -> rows. Consistency, probe, pair and evaluation
            prompts depend on the settings alone, so organisms that differ in seed share them; induction and control
            rows depend on `organism_seed`, too.
        verdict: (prompt, completion) -> True (misbehaves), False, or None where it cannot tell.
        correct: (prompt, completion) -> whether a "direct" prompt is answered rightly, None elsewhere.
        meaning: (prompt, completion) -> what the completion says, the same for every wording and view of it; None where
            it says nothing that is known. Two completions of a prompt agree where their meanings are equal.
        rubric: what a judge is told where the verdict leaves a completion open; None where rules always suffice.
        needs_judge: prompt -> why only a judge can tell whether an answer to it misbehaves; None where a rule can.
        raw_score: (prompt, completion) -> what the published scoring counts, on its own scale; None where it counts
            nothing. None in place of the function: there is no published scoring to compare with.
    """

    name: str
    title: str
    misbehaviour: str
    data: Callable[[object, InductionSettings, CandidateSettings, EvaluationSettings, int], OrganismData]
    verdict: Callable[[Prompt, str], bool | None]
    correct: Callable[[Prompt, str], bool | None]
    meaning: Callable[[Prompt, str], str | None]
    rubric: str | None = None
    needs_judge: Callable[[Prompt], str | None] = lambda prompt: None
    raw_score: Callable[[Prompt, str], float | None] | None = None
