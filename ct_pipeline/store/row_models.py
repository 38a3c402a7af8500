"""JSONL files of strangers as rows of a pydantic model, every mistake with its file, line, field and mend."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from ct_pipeline.settings.errors import Refusal, Refused, shown
from ct_pipeline.store.untrusted import LIMITS, Row, mistake, read_jsonl

Mistake = tuple[str, str, str]
"""Field, what was found, what is allowed."""


class RowModel(BaseModel):
    """One row of a file; a field's `description` says what is allowed there, as a message does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def mistakes(self) -> Iterator[Mistake]:
        """What only several fields together show to be wrong."""
        yield from ()


M = TypeVar("M", bound=RowModel)
T = TypeVar("T")


def wrong(found: str, allowed: str, name: str = "") -> PydanticCustomError:
    """What a validator raises where it says more than its field's description; `name`: another field than its own."""
    return PydanticCustomError("wrong", "{found}", {"found": found, "allowed": allowed, "name": name})


def some(value: T) -> T:
    """A validator: refuses empty lists and texts of white space alone."""
    if not (value.strip() if isinstance(value, str) else value):
        raise ValueError
    return value


Filled = Annotated[str, AfterValidator(some)]
"""A text that holds more than white space."""


@dataclass
class Rows(Generic[M]):
    """What was read of a file.

    Attributes:
        path: the file.
        by_line: line -> row, of those without a mistake.
        refusals: everything that is wrong so far.
    """

    path: Path
    by_line: dict[int, M] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, line: int | None, name: str, found: str, allowed: str) -> None:
        """Notes a mistake that only several rows together show."""
        self.refusals.append(mistake(self.path, line, name, found, allowed))

    def accepted(self) -> tuple[M, ...]:
        """The rows in the order of the file; Refused where anything was wrong."""
        if self.refusals:
            raise Refused(self.refusals[: LIMITS.mistakes])
        return tuple(self.by_line.values())


def read_rows(path: Path, model: type[M]) -> Rows[M]:
    """The rows of a JSONL file, and what is wrong with it; nothing is raised before `accepted`."""
    try:
        return checked(path, read_jsonl(path), model)
    except Refused as error:
        return Rows(path, refusals=list(error.refusals))


def checked(path: Path, rows: Iterable[Row], model: type[M]) -> Rows[M]:
    """Rows of a file as those of a model."""
    found = Rows[M](path)
    for row in rows:
        try:
            read = model.model_validate(row.fields)
            mistakes = list(read.mistakes())
        except ValidationError as error:
            mistakes = _mistakes(error, row, model)
        if mistakes:
            found.refusals += (mistake(path, row.line, *each) for each in mistakes)
        else:
            found.by_line[row.line] = read
    return found


def _mistakes(error: ValidationError, row: Row, model: type[RowModel]) -> list[Mistake]:
    """Each mistake once: what lies inside a field's value is a mistake of the field, unless a validator says otherwise."""
    allowed = {info.alias or name: info.description for name, info in model.model_fields.items()}
    mistakes: dict[Mistake, None] = {}
    for each in error.errors(include_url=False, include_input=False):
        name = str(each["loc"][0])
        if each["type"] == "extra_forbidden":
            told = (name[:80], "an unknown field", ", ".join(allowed))
        elif each["type"] == "wrong":
            place = name + "".join(f"[{part}]" for part in each["loc"][1:])
            told = (each["ctx"]["name"] or place, each["ctx"]["found"], each["ctx"]["allowed"])
        else:
            told = (name, shown(row.fields[name]) if name in row.fields else "nothing", str(allowed[name]))
        mistakes[told] = None
    return list(mistakes)
