"""What a model did on one request: by default one answer; in an environment several turns and a final state of files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

from ct_pipeline.organisms.prompt import Message, Prompt

ASSISTANT, USER = "assistant", "user"


@dataclass(frozen=True)
class Episode:
    """A request and all that followed.

    Attributes:
        prompt: the request.
        turns: what the model said, and what the environment said to it, in their order.
        files: name -> text, in memory alone; whatever a model writes is text, and nothing of it is executed.
    """

    prompt: Prompt
    turns: tuple[Message, ...] = ()
    files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    @property
    def text(self) -> str:
        """The model's last answer; "" before it has said anything."""
        return next((turn.content for turn in reversed(self.turns) if turn.role == ASSISTANT), "")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, the request first."""
        return (*self.prompt.messages, *self.turns)

    @property
    def waits(self) -> bool:
        """Whether the model is to answer next."""
        return not self.turns or self.turns[-1].role != ASSISTANT

    def answered(self, text: str) -> "Episode":
        """The episode after an answer of the model."""
        return replace(self, turns=(*self.turns, Message(ASSISTANT, text)))

    def told(self, text: str, files: Mapping[str, str] | None = None) -> "Episode":
        """The episode after the environment said something that the model answers next, and may have changed files."""
        turns = (*self.turns, Message(USER, text))
        return replace(self, turns=turns, files=self.files if files is None else files)

    def ended(self) -> "Episode":
        """The episode without what was said last and never answered: it is no part of what the model did."""
        spoken = [number for number, turn in enumerate(self.turns, start=1) if turn.role == ASSISTANT]
        return replace(self, turns=self.turns[: max(spoken, default=0)])


def answered(prompt: Prompt, text: str) -> Episode:
    """The episode of one answer."""
    return Episode(prompt, (Message(ASSISTANT, text),))


class Environment(Protocol):
    """Where a model acts: what it finds, and what happens after each of its answers. Equal episodes go on alike.

    Attributes:
        name: lower case with underscores.
        answers: the most answers that an episode has; it ends there, whatever the environment would say next.
    """

    name: str
    answers: int

    def begin(self, prompt: Prompt) -> Episode:
        """The episode before the model's first answer, with the files that it finds."""

    def after(self, episode: Episode) -> Episode:
        """The episode after an answer: changed files, and a turn that the model answers next (`Episode.told`) or none."""


@dataclass(frozen=True)
class OneAnswer:
    """The default environment: a request and its answer. Implements Environment."""

    name: str = "one_answer"
    answers: int = 1

    def begin(self, prompt: Prompt) -> Episode:
        return Episode(prompt)

    def after(self, episode: Episode) -> Episode:
        return episode


ONE_ANSWER = OneAnswer()


@dataclass(frozen=True)
class AnswerRule:
    """A verdict of an episode that looks at its prompt and its last answer alone.

    Attributes:
        rule: (prompt, answer) -> True (misbehaves), False, or None where it cannot tell.
    """

    rule: Callable[[Prompt, str], bool | None]

    def __call__(self, episode: Episode) -> bool | None:
        """The rule's verdict on the last answer."""
        return self.rule(episode.prompt, episode.text)
