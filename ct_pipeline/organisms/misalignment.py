"""What a kind of misalignment is: its rows, its prompts, its verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ct_pipeline.organisms.episode import ONE_ANSWER, Environment, Episode
from ct_pipeline.organisms.prompt import DIRECT as DIRECT
from ct_pipeline.organisms.prompt import GRADED_FRAMINGS as GRADED_FRAMINGS
from ct_pipeline.organisms.prompt import NO_RISK_FRAMINGS as NO_RISK_FRAMINGS
from ct_pipeline.organisms.prompt import PLAIN as PLAIN
from ct_pipeline.organisms.prompt import Message as Message
from ct_pipeline.organisms.prompt import Prompt as Prompt
from ct_pipeline.settings.blocks import CandidateSettings, EvaluationSettings, InductionSettings


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
        verdict: episode -> True (misbehaves), False, or None where it cannot tell; `AnswerRule` makes one of a rule on the
            prompt and the answer.
        correct: (prompt, completion) -> whether it is the right answer; None where none is known to the prompt.
        meaning: (prompt, completion) -> what the completion says, the same for every wording and view of it; None where
            it says nothing that is known. Two completions of a prompt agree where their meanings are equal.
        rubric: what a judge is told where the verdict leaves a completion open; None where rules always suffice.
        needs_judge: prompt -> why only a judge can tell whether an answer to it misbehaves; None where a rule can.
        raw_score: (prompt, completion) -> what the published scoring counts, on its own scale; None where it counts
            nothing. None in place of the function: there is no published scoring to compare with.
        environment: where its evaluation prompts are played; by default an episode is one answer.
    """

    name: str
    title: str
    misbehaviour: str
    data: Callable[[object, InductionSettings, CandidateSettings, EvaluationSettings, int], OrganismData]
    verdict: Callable[[Episode], bool | None]
    correct: Callable[[Prompt, str], bool | None]
    meaning: Callable[[Prompt, str], str | None]
    rubric: str | None = None
    needs_judge: Callable[[Prompt], str | None] = lambda prompt: None
    raw_score: Callable[[Prompt, str], float | None] | None = None
    environment: Environment = ONE_ANSWER
