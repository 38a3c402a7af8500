"""Typed results as flat numbers: the columns of a table, and the metrics of a run."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

Columns = Mapping[str, str | Callable]
"""A column to the path of its value ("shift.prediction.low"), or to a function of the whole."""

RATE = ("value", "low", "high", "prompts", "rows", "missing")
BOUNDS = ("low", "high")
"""Of an estimate without a value they are those of the possible values, which says nothing."""


def row_of(result: object, columns: Columns) -> dict[str, object]:
    """Some values of a result by column; None along a path is None at its end, and so are the bounds of a missing value."""
    return {name: _at(result, path) if isinstance(path, str) else path(result) for name, path in columns.items()}


def same(*names: str, prefix: str = "", of: str = "") -> dict[str, str]:
    """Columns that are called like the fields they hold: those of the field `of`, with a prefix."""
    return {f"{prefix}{name}": f"{of}.{name}" if of else name for name in names}


def as_metrics(result: object, name: str = "") -> dict[str, float]:
    """All numbers of a result, whatever its type, by their names joined with "_".

    Args:
        result: a dataclass such as Rate, Difference or KlEstimate, a mapping, or a number; nested as deep as it likes.
        name: of the result; its field `value` is called so alone.

    Returns:
        Truth is 1, untruth 0. Texts, sequences, what is missing and what is not finite are left out.
    """
    return {"_".join(path): number for path, number in _numbers(result, (name,) if name else ())}


def _numbers(result: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(result, bool | int | float):
        if math.isfinite(result):
            yield path or ("value",), float(result)
        return
    if dataclasses.is_dataclass(result):
        parts = {one.name: getattr(result, one.name) for one in dataclasses.fields(result)}
        if "value" in parts and parts["value"] is None:
            parts = {name: part for name, part in parts.items() if name not in BOUNDS}
    elif isinstance(result, Mapping):
        parts = {"_".join(name) if isinstance(name, tuple) else str(name): part for name, part in result.items()}
    else:
        return
    for name, part in parts.items():
        yield from _numbers(part, path if name == "value" and path else (*path, name))


def _at(result: object, path: str) -> object:
    *way, last = path.split(".")
    for name in way:
        result = None if result is None else getattr(result, name)
    if result is None or (last in BOUNDS and getattr(result, "value", 0.0) is None):
        return None
    return getattr(result, last)
