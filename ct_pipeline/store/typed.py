"""Stored documents as the results they were written from."""

from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


def typed(kind: type[T], document: object) -> T:
    """What `dataclasses.asdict` and JSON made of a result, as that result again, dataclasses inside it alike.

    Args:
        kind: a dataclass, or a mapping or tuple of dataclasses (`dict[str, Difference]`).
        document: as JSON gives it; fields that `kind` does not know are passed over.

    Raises:
        pydantic.ValidationError: a field is missing or of another kind; a ValueError.
    """
    return _adapter(kind).validate_python(document)


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
