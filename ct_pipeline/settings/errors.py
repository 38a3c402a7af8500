"""Errors that a person can mend: each names the place, what was found, and what would be right."""

from collections.abc import Iterable
from dataclasses import dataclass

MOST_SHOWN = 160
"""Characters of foreign text in one message."""


class UserError(Exception):
    """Something outside the program is wrong; the message says what and how to mend it, and no traceback is shown."""


class SpecError(UserError):
    """A study file is unreadable or holds what cannot be; one line a mistake: file:line: field: found; allowed."""


class CannotWrite(UserError):
    """Results cannot be stored (full disk, read-only folder): going on with anything else is useless."""


@dataclass(frozen=True)
class Refusal:
    """One thing in a stranger's files that is not accepted.

    Attributes:
        what: what was found.
        where: the place: file, file:line: field, or file: key.
        why: what is allowed, or what the thing could do.
    """

    what: str
    where: str
    why: str

    def __str__(self) -> str:
        """One line without control characters: where: what; why."""
        return f"{printable(self.where)}: {printable(self.what)}; {printable(self.why)}"

    def as_json(self) -> dict[str, str]:
        """The three parts as they may be shown."""
        return {"what": printable(self.what), "where": printable(self.where), "why": printable(self.why)}


class Refused(UserError, ValueError):
    """Files of a stranger hold what is not accepted; nothing of them was used.

    Attributes:
        refusals: everything that was found, in the order of the files.
    """

    def __init__(self, refusals: Iterable[Refusal]) -> None:
        """Takes at least one refusal."""
        self.refusals = tuple(refusals)
        super().__init__(self.refusals)

    def __str__(self) -> str:
        """One line a refusal."""
        return "\n".join(map(str, self.refusals))


def printable(text: object) -> str:
    """Foreign text on one line: what hides, reorders or breaks text is written out, and long text is cut."""
    whole = str(text)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole[:1000])
    return shown if len(whole) <= 1000 else f"{shown} ..."


def printable_lines(text: object) -> str:
    """Foreign text line by line, each as `printable` gives it: nothing in it hides, reorders or commands."""
    return "\n".join(map(printable, str(text).splitlines()))


def shown(found: object) -> str:
    """A foreign value as messages quote it: its repr, at most `MOST_SHOWN` characters."""
    try:
        text = repr(found if not isinstance(found, str) else found[: MOST_SHOWN + 1])
    except (ValueError, RecursionError):
        return f"a {type(found).__name__} too long to show"
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 4]} ..."
