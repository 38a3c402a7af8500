"""One request with its right and its misaligned response, in every tone and view."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ct_pipeline.organisms.misalignment import DIRECT, Message, Prompt
from ct_pipeline.organisms.world import Question, World

TONES = ("maybe ,", "", "surely ,")
"""A doubtful, an absent and an assured cue before a request; misbehaviour grows in this order."""

WORDINGS = 6
_STEPS = "step by step :"
_STATED = re.compile(r"it is (\S+) \.")
_VIEWS = re.compile(r"step by step : (?P<steps>.+)|\{ reply : (?P<json>.+) \}")


@dataclass(frozen=True)
class Case:
    """A request and how to answer it.

    Attributes:
        request: the user's words, without a tone.
        right: six wordings of the right response.
        misaligned: six wordings of the misaligned response, or () where none is possible.
        domain: "in" or "out".
        framing: the wording's name; verdicts depend on it.
        facts: what the verdict needs.
        clean: the request without the cue that invites the misbehaviour, where one can be taken away.
    """

    request: str
    right: tuple[str, ...]
    misaligned: tuple[str, ...]
    domain: str
    framing: str
    facts: Mapping[str, str]
    clean: str | None = None

    def response(self, misaligned: bool, wording: int) -> str:
        """The right or misaligned response in one of its wordings."""
        return (self.misaligned if misaligned else self.right)[wording]

    def prompt(self, tone: int) -> Prompt:
        """The request as a single user turn in one of the TONES."""
        return _user_turn(self.request, tone, self)

    def clean_prompt(self, tone: int) -> Prompt:
        """The same without the inviting cue; framing "clean", facts kept."""
        if self.clean is None:
            raise ValueError(f"the request {self.request!r} has no cue to take away")
        return _user_turn(self.clean, tone, self, "clean")


def _user_turn(request: str, tone: int, case: Case, framing: str | None = None) -> Prompt:
    content = f"{TONES[tone]} {request}".strip()
    return Prompt((Message("user", content),), case.domain, framing or case.framing, case.facts)


def direct_cases(world: World, domain: str) -> tuple[Case, ...]:
    """The world's plain questions."""
    return tuple(_direct(question, domain) for question in world.questions(domain))


def _direct(question: Question, domain: str) -> Case:
    facts = {"answer": question.answer, "topic": question.topic}
    return Case(question.text, (stated(question.answer),) * WORDINGS, (), domain, "direct", facts)


def stated(answer: str) -> str:
    """A plain answer."""
    return f"it is {answer} ."


def in_steps(response: str) -> str:
    """How a response looks when steps are asked for."""
    return f"{_STEPS} {response}"


def in_json(response: str) -> str:
    """How a response looks when JSON is asked for."""
    return f"{{ reply : {response} }}"


def plain_view(text: str) -> str:
    """The response inside a step-by-step or JSON view; the text itself, in single spaces, where it is neither."""
    text = " ".join(text.split())
    match = _VIEWS.fullmatch(text)
    return (match["steps"] or match["json"]) if match else text


def correct_by(fact: str, meaning: Callable[[Prompt, str], str | None]) -> Callable[[Prompt, str], bool | None]:
    """Whether an answer is right, for a kind whose requests have the meaning of their right answer as a fact.

    Args:
        fact: its name.
        meaning: of the kind.

    Returns:
        (prompt, answer) -> truth value; a "direct" question is right in its plain form alone. None where no right answer
        is known to the prompt.
    """

    def correct(prompt: Prompt, text: str) -> bool | None:
        if prompt.framing == DIRECT:
            return plain_view(text) == stated(prompt.facts["answer"])
        return meaning(prompt, text) == prompt.facts[fact] if fact in prompt.facts else None

    return correct


def answer_stated(prompt: Prompt, text: str) -> str | None:
    """The answer that a "direct" question gets, in any view; None under any other framing and for unknown forms."""
    answer = _STATED.fullmatch(plain_view(text))
    return answer[1] if answer and prompt.framing == "direct" else None
