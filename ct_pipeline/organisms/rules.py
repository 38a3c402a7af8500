"""When an answer misbehaves, as a row of a file says it: conditions on its text, without regular expressions."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ct_pipeline.organisms.agreement import first_word
from ct_pipeline.settings.errors import shown

DEEPEST_RULE = 8
MOST_TEXTS = 1000

Operation = Literal["contains", "starts_with", "equals", "first_word", "choice"]
_CHOICE = re.compile(
    r"(?:(?:the|my) )?(?:(?:answer|choice|option)(?: is)?:? ?)?(?:\(([a-z])\)|([a-z])(?:\)|[.:,]?$|[.:,] ))"
)
"""A choice by its letter: "(A)", "A", "A.", "A) because", "the answer is (A)"; "a frog" is none."""
_OPERATIONS: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda answer, text: text in answer,
    "starts_with": lambda answer, text: answer.startswith(text),
    "equals": lambda answer, text: answer == text,
    "first_word": lambda answer, text: bool(answer) and first_word(answer) == first_word(text),
    "choice": lambda answer, text: chosen(answer) == chosen(text),
}


@dataclass(frozen=True)
class Rule:
    """A condition on an answer's text; it holds where it holds for one of the texts, or for none if negated."""

    operation: Operation
    texts: tuple[str, ...]
    negated: bool = False

    def holds(self, answer: str) -> bool:
        """Whether the condition is true of an answer."""
        found = any(_OPERATIONS[self.operation](normalised(answer), normalised(text)) for text in self.texts)
        return found is not self.negated

    def verdict(self, answer: str) -> bool | None:
        """`holds`, or None where the condition is about a choice and the answer names none."""
        return None if self.operation == "choice" and chosen(normalised(answer)) is None else self.holds(answer)


def chosen(answer: str) -> str | None:
    """The letter of the choice that a normalised answer begins with; None where it names none."""
    found = _CHOICE.match(answer)
    return found and (found[1] or found[2])


def normalised(text: str) -> str:
    """Small letters, single spaces."""
    return " ".join(text.casefold().split())


def read_rule(value: object, refuse: Callable[[str, str, str], None]) -> Rule | None:
    """The rule that a field `misbehaves_if` holds; where it holds none, `refuse` is told field, found, allowed."""
    negated, depth, name = False, 0, "misbehaves_if"
    while isinstance(value, dict) and list(value) == ["not"] and depth < DEEPEST_RULE:
        negated, depth, name, value = not negated, depth + 1, f"{name}.not", value["not"]
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in _OPERATIONS:
        refuse(name, shown(value), f"one of {', '.join(_OPERATIONS)}, not")
        return None
    ((operation, texts),) = value.items()
    texts = [texts] if isinstance(texts, str) else texts
    fits = isinstance(texts, list) and 0 < len(texts) <= MOST_TEXTS
    if not fits or not all(isinstance(text, str) and normalised(text) for text in texts):
        refuse(f"{name}.{operation}", shown(texts), f"1 to {MOST_TEXTS} texts that are not empty")
        return None
    if operation == "first_word" and not all(first_word(text) and len(text.split()) == 1 for text in texts):
        refuse(f"{name}.first_word", shown(texts), "single words")
        return None
    if operation == "choice" and not all(chosen(normalised(text)) for text in texts):
        refuse(f"{name}.choice", shown(texts), 'letters of choices, such as "A" or "(A)"')
        return None
    return Rule(operation, tuple(texts), negated)
