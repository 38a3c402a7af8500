"""Sections as Markdown, for terminals and pull requests: every text escaped, every figure as its table."""

import re
from collections.abc import Iterable, Iterator, Sequence

from ct_pipeline.report.section import (
    Answers,
    Block,
    Code,
    Details,
    Field,
    Legend,
    Line,
    Link,
    Page,
    Picture,
    Pictures,
    Section,
    Sentences,
    Strong,
    Table,
    Tabs,
    Terms,
    Text,
    as_field,
    pieces,
    safe_address,
)
from ct_pipeline.report.wording import MISSING, visible

MOST_COLUMNS = 8
"""Of a figure's table in Markdown; a wider one cannot be read there, and the figure's text stands in its place."""
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&$!])")


def as_markdown(page: Page, address: str = "") -> str:
    """A page as Markdown.

    Args:
        page: what to say.
        address: of the same page as HTML; what is folded there is named here with a link to it.
    """
    more = [Text(("With figures and what is only named here: ", Link(address, address), "."))] if address else []
    return markdown([Section(page.heading, [*page.lead, *more, *page.sections])], 1, address)


def markdown(blocks: Sequence[Block], level: int = 2, address: str = "") -> str:
    """Some blocks as Markdown; `level` is that of the sections among them."""
    parts = (part for block in blocks for part in _parts(block, level, address))
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: object) -> str:
    """Foreign text on one line, with every character that Markdown would act on escaped."""
    return SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))


def _parts(block: Block, level: int, address: str) -> Iterator[str]:
    match block:
        case Section():
            yield f"{'#' * level} {plain(block.title)}"
            here = f"{address.partition('#')[0]}#{block.anchor}" if address and block.anchor else address
            for inner in block.blocks:
                yield from _parts(inner, level + 1, here)
        case Text():
            yield _line(block.line)
        case Sentences():
            yield _list(map(_line, block.lines))
        case Legend():
            yield "; ".join(map(_line, block.lines)) + "."
        case Terms():
            yield _list(f"**{plain(word)}**: {plain(meaning)}" for word, meaning in block.pairs)
        case Table():
            yield from _table(block)
        case Pictures():
            for picture in block.pictures:
                yield from _parts(picture, level, address)
        case Picture():
            yield f"**{plain(block.caption)}**"
            read = block.table is not None and len(block.table.head) <= MOST_COLUMNS
            yield from _table(block.table) if read else [plain(block.alt)]
        case Answers():
            yield _list(f"{plain(name)}: {plain(text)}" for name, text in (("Prompt", block.prompt), *block.sides))
        case Code():
            yield "\n".join(f"    {visible(line)}" for line in block.text.splitlines())
        case Details():
            yield _list([_line(Link(block.summary, address) if address else block.summary)])
        case Tabs():
            for title, inner in block.panels:
                yield from _parts(Section(title, inner), level, address)


def _table(table: Table) -> Iterator[str]:
    rows = [[_field(as_field(one)) for one in row] for row in table.rows]
    head = [_field(as_field(one)) for one in table.head] or [""] * max(map(len, rows), default=0)
    if table.caption:
        yield plain(table.caption) + ":"
    if rows:
        lines = (f"| {' | '.join(cells)} |" for cells in rows)
        yield "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines])
    else:
        yield MISSING


def _field(field: Field) -> str:
    small = [plain(one) for one in field.small if one]
    return " ".join(part for part in (_line(field.text), f"({'; '.join(small)})" if small else "") if part)


def _line(line: Line) -> str:
    return "".join(map(_piece, pieces(line)))


def _piece(piece: str | Link | Strong) -> str:
    match piece:
        case Link():
            target = safe_address(piece)
            return plain(piece.text) if target is None else f"[{plain(piece.text)}]({target})"
        case Strong():
            return f"**{plain(piece.text)}**"
        case _:
            # The spaces at the ends part it from what comes before and after.
            ends = (" " if piece[:1].isspace() else "", " " if piece[-1:].isspace() else "")
            return f"{ends[0]}{plain(piece)}{ends[1]}" if piece.strip() else piece


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
