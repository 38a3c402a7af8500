"""What a page of metadata shows beside plain numbers and words, and sections in that form."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct_pipeline.report import section as blocks
from ct_pipeline.report.as_markdown import markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Rows:
    """A table, one mapping per row; "none" where there are none."""

    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Picture:
    """A figure with a text for those who do not see it."""

    figure: "Figure"
    text: str


@dataclass(frozen=True)
class Prose:
    """Markdown."""

    text: str


Shown = Rows | Picture | Prose


def as_metadata(section: blocks.Section) -> dict[str, Shown]:
    """The parts of a section by name: a table's is its caption, a figure's too; without one the section's title."""
    found: dict[str, Shown] = {}
    for name, value in _values(section, section.title):
        key = re.sub(r"\W+", "_", name.lower()).strip("_")
        place = next(each for each in (key, *(f"{key}_{number}" for number in range(2, 1000))) if each not in found)
        found[place] = value
    return found


def _values(block: blocks.Block, title: str) -> Iterator[tuple[str, Shown]]:
    match block:
        case blocks.Table():
            yield block.caption or title, _rows(block)
        case blocks.Picture():
            yield block.caption or title, Picture(block.draw(), block.alt)
        case blocks.Section(title=title, blocks=inside) | blocks.Details(summary=title, blocks=inside):
            for inner in inside:
                yield from _values(inner, title)
        case blocks.Pictures():
            for inner in block.pictures:
                yield from _values(inner, title)
        case blocks.Tabs():
            for name, inside in block.panels:
                for inner in inside:
                    yield from _values(inner, name)
        case _:
            yield f"{title} in words", Prose(markdown([block]))


def _rows(table: blocks.Table) -> Rows:
    head = [blocks.words(blocks.as_field(one).text) for one in table.head] or ["name", "value"]
    texts = ([_text(blocks.as_field(one)) for one in row] for row in table.rows)
    return Rows(tuple(dict(zip(head, row, strict=False)) for row in texts))


def _text(field: blocks.Field) -> str:
    small = "; ".join(one for one in field.small if one)
    return " ".join(part for part in (blocks.words(field.text), f"({small})" if small else "") if part)
