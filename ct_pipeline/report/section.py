"""What a person is shown, as data: sections of blocks, written once and rendered as HTML, Markdown or metadata.

Texts may be a stranger's. They are not escaped here: whoever renders them does that.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct_pipeline.report.wording import MISSING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WEB = re.compile(r"https?://[^\s\"'<>()]+")
_INSIDE = re.compile(r"#[\w-]+|(?:\.\./)*[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)*/?(?:#[\w-]+)?")


@dataclass(frozen=True)
class Link:
    """A text that leads to a file of the report, to an anchor or into the web."""

    text: str
    address: str


@dataclass(frozen=True)
class Strong:
    """A text with weight."""

    text: str


Inline = str | Link | Strong
Line = Inline | tuple[Inline, ...]


@dataclass(frozen=True)
class Field:
    """One field of a table.

    Attributes:
        text: what stands first, mostly a number.
        small: lines below it.
        shade: background on a light and on a dark page, as #rrggbb.
        share: length of a bar before the text, in [0, 1].
        folded: lines that the text opens.
    """

    text: Line
    small: tuple[str, ...] = ()
    shade: tuple[str, str] | None = None
    share: float | None = None
    folded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Text:
    """A paragraph; a soft one is a remark."""

    line: Line
    soft: bool = False


@dataclass(frozen=True)
class Sentences:
    """Sentences that stand by themselves, as a list; the `result` of a page stands in a box."""

    lines: Sequence[Line]
    result: bool = False


@dataclass(frozen=True)
class Legend:
    """What the marks of a table mean; `scale` explains its colours."""

    scale: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Terms:
    """Words, each with its meaning."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of fields, the first of each its name; without a head a list of names and values.

    `look` is "grid" for a table of shaded fields of one width, "aligned" for one whose columns align with those of others.
    """

    head: Sequence[str | Field]
    rows: Sequence[Sequence[Field | Line | float | None]]
    caption: str = ""
    look: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: drawn when it is needed, with a text and a table that say the same numbers; `folded`: the table is."""

    caption: str
    draw: "Callable[[], Figure]"
    alt: str
    table: Table | None
    folded: bool = True


@dataclass(frozen=True)
class Pictures:
    """Figures beside each other."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Answers:
    """Answers to one prompt, each with what it is."""

    prompt: str
    sides: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """A text whose lines and spaces count."""

    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that a reader opens; Markdown only names them."""

    summary: str
    blocks: "Sequence[Block]"


@dataclass(frozen=True)
class Tabs:
    """Blocks of which a page shows one at a time, by their titles; `name` tells them from other tabs of the page."""

    name: str
    panels: "Sequence[tuple[str, Sequence[Block]]]"


@dataclass(frozen=True)
class Section:
    """A titled part of a page; `anchor` is its address there, `short` its name in the contents."""

    title: str
    blocks: "Sequence[Block]"
    anchor: str = ""
    short: str = ""


Block = Text | Sentences | Legend | Terms | Table | Picture | Pictures | Answers | Code | Details | Tabs | Section


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: of the window.
        kicker: the line above the heading.
        heading: of the page.
        lead: what comes before the sections.
        sections: in their order.
        contents: whether the sections with an anchor are listed before them.
    """

    title: str
    kicker: Line
    heading: str
    lead: Sequence[Block]
    sections: Sequence[Section]
    contents: bool = False


def pieces(line: Line) -> tuple[Inline, ...]:
    """The parts of a line."""
    return line if isinstance(line, tuple) else (line,)


def words(line: Line) -> str:
    """A line without weight and links."""
    return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces(line))


def as_field(one: object) -> Field:
    """A field of a table, whichever way it was written: a line, a number, or None where something is missing."""
    if isinstance(one, Field):
        return one
    return Field(MISSING if one is None else one if isinstance(one, str | Link | Strong | tuple) else str(one))


def web_address(text: str | None) -> str | None:
    """The address if it is one of the web, else None."""
    return text if text and _WEB.fullmatch(text) else None


def safe_address(link: Link) -> str | None:
    """A link's address if it leads into the web or stays in the report, else None: nothing else becomes a link."""
    return link.address if web_address(link.address) or _INSIDE.fullmatch(link.address) else None


def walk(blocks: Sequence[Block]) -> Iterator[Block]:
    """All blocks, those inside others after the one that holds them."""
    for block in blocks:
        yield block
        match block:
            case Section(blocks=inner) | Details(blocks=inner) | Pictures(pictures=inner):
                yield from walk(inner)
            case Tabs(panels=panels):
                for _, inner in panels:
                    yield from walk(inner)
