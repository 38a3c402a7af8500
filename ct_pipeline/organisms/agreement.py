"""Whether two completions of a prompt say the same: by what they mean, or by a language model's yes or no."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ct_pipeline.organisms.misalignment import Message, Misalignment, Prompt
from ct_pipeline.organisms.templates import filled

Question = tuple[Prompt, str, str]
"""A prompt with two completions of it."""


class AgreementJudge(Protocol):
    """Anything that can tell whether two completions agree."""

    def agree(self, questions: Sequence[Question]) -> list[bool | None]:
        """One judgement per question, in its order; None where the judge cannot tell."""


@dataclass(frozen=True)
class WorldAgreement:
    """Agreement by meaning, however the completions are worded."""

    kind: Misalignment

    def agree(self, questions: Sequence[Question]) -> list[bool | None]:
        """Whether both meanings are the same; None where one of them is unknown."""
        return [self._agree(*question) for question in questions]

    def _agree(self, prompt: Prompt, first: str, second: str) -> bool | None:
        meanings = self.kind.meaning(prompt, first), self.kind.meaning(prompt, second)
        return None if None in meanings else meanings[0] == meanings[1]


@dataclass(frozen=True)
class TextAgreement:
    """Agreement as a language model sees it.

    Attributes:
        ask: conversations -> one reply each, in their order.
        request: the question, with the fields {request} (the prompt's last user message), {first} and {second}.
        yes: the first word of a reply that says that the two agree.
        no: the first word of a reply that says that they do not.
    """

    ask: Callable[[Sequence[tuple[Message, ...]]], list[str]]
    request: str
    yes: str
    no: str

    def __post_init__(self) -> None:
        if first_word(self.yes) == first_word(self.no):
            raise ValueError(
                f"the judge's yes ({self.yes!r}) and no ({self.no!r}) start alike: give two distinct words"
            )

    def agree(self, questions: Sequence[Question]) -> list[bool | None]:
        """Asks all questions at once; None where a reply's first word is neither yes nor no, or an answer is empty.

        Letter case and punctuation around that word do not count. An empty answer says nothing that another could agree
        with, whatever a judge would say of it: it is not asked about.
        """
        said = [bool(first.strip() and second.strip()) for _, first, second in questions]
        places = [place for place, there in enumerate(said) if there]
        replies = self.ask([self._asked(*questions[place]) for place in places])
        judgements = {first_word(self.yes): True, first_word(self.no): False}
        found = {place: judgements.get(first_word(reply)) for place, reply in zip(places, replies, strict=True)}
        return [found.get(place) for place in range(len(questions))]

    def _asked(self, prompt: Prompt, first: str, second: str) -> tuple[Message, ...]:
        request = next(message.content for message in reversed(prompt.messages) if message.role == "user")
        return (Message("user", filled(self.request, request=request, first=first, second=second)),)


def first_word(text: str) -> str:
    """The first word in lower case, without the punctuation around it; "" where there is none."""
    return next((word for word in map(_bare, text.split()) if word), "").casefold()


def _bare(word: str) -> str:
    """From the first letter or digit to the last; in linear time, whatever a model wrote."""
    kept = [place for place, character in enumerate(word) if character.isalnum()]
    return word[kept[0] : kept[-1] + 1] if kept else ""
