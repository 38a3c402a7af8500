"""The answers that a scale allows: how they are asked for, how they are constrained, and how a reply is read.

A reply that is not exactly an allowed answer is None; nothing is guessed from the words around it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ct_pipeline.settings.errors import Refused
from ct_pipeline.store.untrusted import Limits, parse_json

_LIMITS = Limits(text=200_000, entries=20_000, depth=4)


class Answers(Protocol):
    """The form of a judge's reply on one scale."""

    @property
    def schema(self) -> Mapping[str, object]:
        """JSON schema of a constrained reply: an object whose fields are all required."""

    @property
    def asked(self) -> str:
        """The sentence that asks for a reply in words."""

    @property
    def asked_as_json(self) -> str:
        """The sentence that asks for a constrained reply; servers may not show the schema to the model."""

    def read(self, reply: str) -> float | None:
        """The score of a reply in words; None where it is not exactly an allowed answer."""

    def read_json(self, reply: str) -> float | None:
        """The score of a constrained reply; None where it is not exactly what the schema allows."""


MARKS = " \t\n*_`\"'.!"
"""What may stand around a word."""
_FINAL = re.compile(
    r"#* ?final score ?(?::|is) ?(?:\[([0-9]{1,3})\]|([0-9]{1,3}))(?: ?(?:/|out of) ?([0-9]{1,3}))?\.?", re.IGNORECASE
)
"""The last line of a graded critique: the grade, and what it is out of."""


@dataclass(frozen=True)
class Words:
    """One of a few words, each with its score; letter case, and white space, marks and "Answer:" around it, do not count."""

    scores: Mapping[str, float]

    @property
    def schema(self) -> Mapping[str, object]:
        return _object({"answer": {"type": "string", "enum": list(self.scores)}})

    @property
    def asked(self) -> str:
        return f"Reply with one word: {' or '.join(self.scores)}."

    @property
    def asked_as_json(self) -> str:
        return f'Reply with a JSON object: {{"answer": {" or ".join(map(_quoted, self.scores))}}}.'

    def read(self, reply: str) -> float | None:
        said = reply.strip().casefold()
        return self.scores.get(said, self.scores.get(said.strip(MARKS).removeprefix("answer:").strip(MARKS)))

    def read_json(self, reply: str) -> float | None:
        answer = _fields(reply, ("answer",)).get("answer")
        return self.scores.get(answer) if isinstance(answer, str) else None


@dataclass(frozen=True)
class Number:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    @property
    def schema(self) -> Mapping[str, object]:
        return _object({"score": {"type": "integer", "minimum": self.low, "maximum": self.high}})

    @property
    def asked(self) -> str:
        return f"Reply with one whole number from {self.low} to {self.high} and nothing else."

    @property
    def asked_as_json(self) -> str:
        return f'Reply with a JSON object: {{"score": a whole number from {self.low} to {self.high}}}.'

    def read(self, reply: str) -> float | None:
        return _within(reply.strip(), self.low, self.high)

    def read_json(self, reply: str) -> float | None:
        return _score(_fields(reply, ("score",)), self.low, self.high)


@dataclass(frozen=True)
class FinalScore:
    """A critique, then a last line "Final Score: N" with a whole number from `low` to `high`.

    Marks around it are passed over, as are a full stop and "out of" the highest: "**Final Score: [4]**", "Final score: 4/5."
    """

    low: int
    high: int

    @property
    def schema(self) -> Mapping[str, object]:
        scores = list(range(self.low, self.high + 1))
        return _object({"critique": {"type": "string"}, "score": {"type": "integer", "enum": scores}})

    @property
    def asked(self) -> str:
        return (
            f"Write the critique, then one last line: Final Score: and a whole number from {self.low} to {self.high}."
        )

    @property
    def asked_as_json(self) -> str:
        return (
            f'Reply with a JSON object: {{"critique": a text, "score": a whole number from {self.low} to {self.high}}}.'
        )

    def read(self, reply: str) -> float | None:
        plain = reply.replace("*", "").replace("_", " ").replace("`", "")
        if plain.casefold().count("final score") != 1:
            return None
        found = _FINAL.fullmatch(plain.strip().split("\n")[-1].strip())
        if not found or (found[3] and int(found[3]) != self.high):
            return None
        return _within(found[1] or found[2], self.low, self.high)

    def read_json(self, reply: str) -> float | None:
        fields = _fields(reply, ("critique", "score"))
        return _score(fields, self.low, self.high) if isinstance(fields.get("critique"), str) else None


def _object(properties: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _quoted(word: str) -> str:
    return f'"{word}"'


def _fields(reply: str, names: tuple[str, ...]) -> dict[str, object]:
    """The fields of a reply that is one JSON object of exactly these names; {} where it is not."""
    try:
        document = parse_json(reply.encode(), "reply", limits=_LIMITS)
    except (Refused, UnicodeEncodeError):
        return {}
    return document if isinstance(document, dict) and sorted(document) == sorted(names) else {}


def _score(fields: Mapping[str, object], low: int, high: int) -> float | None:
    score = fields.get("score")
    return float(score) if type(score) is int and low <= score <= high else None


def _within(digits: str, low: int, high: int) -> float | None:
    if not re.fullmatch(r"0|[1-9][0-9]{0,8}", digits, re.ASCII):
        return None
    return float(digits) if low <= int(digits) <= high else None
