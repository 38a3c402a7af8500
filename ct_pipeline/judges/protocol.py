"""What a judge is: it says of answers whether they misbehave, or that it cannot tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol


@dataclass(frozen=True)
class Question:
    """One answer to judge.

    Attributes:
        request: what the model was asked.
        response: what it answered.
        rule: what a yes/no rubric asks about this answer alone; "" for the rubric's own rule.
    """

    request: str
    response: str
    rule: str = ""


@dataclass(frozen=True)
class Judgement:
    """What a judge says of one answer.

    Attributes:
        verdict: True (misbehaves), False, or None where the judge gave no answer that the rubric allows.
        scores: scale -> score; None where the reply could not be read. Empty for judges without scales.
        problem: why the verdict is missing; "" where there is one.
    """

    verdict: bool | None
    scores: Mapping[str, float | None] = field(default_factory=lambda: MappingProxyType({}))
    problem: str = ""


class Judge(Protocol):
    """Anything that judges answers."""

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        """One judgement per question, in its order.

        Raises:
            UserError: the judge cannot be reached or refuses everything; a judgement is never made up for that.
        """
