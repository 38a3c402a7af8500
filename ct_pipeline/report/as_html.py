"""Sections as HTML: one self-contained page that opens from disk and loads nothing."""

import base64
import re
from collections import Counter
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from ct_pipeline.report.section import (
    Field,
    Page,
    Picture,
    Section,
    Tabs,
    as_field,
    pieces,
    safe_address,
    walk,
    web_address,
    words,
)
from ct_pipeline.report.wording import MISSING, visible

TEMPLATES = Path(__file__).parent / "templates"
MOST_PANELS = 8
"""Of tabs: the style sheet counts so far."""
LONGEST_WORD = 20
"""Characters; a longer one, a hash, may break anywhere."""
_NUMBER = re.compile(r"[▲▼=?±+−]? ?[\d—].{0,21}")
"""A number with its unit or a range of numbers: it stays on one line."""


def as_html(page: Page) -> str:
    """A page as HTML; the same page gives the same text.

    Raises:
        ValueError: two sections have the same anchor, two tabs the same name, or tabs too many panels.
    """
    blocks = list(walk([*page.lead, *page.sections]))
    tabs = [block for block in blocks if isinstance(block, Tabs)]
    if many := [one.name for one in tabs if len(one.panels) > MOST_PANELS]:
        raise ValueError(f"tabs {many[0]} have more than {MOST_PANELS} panels")
    anchors = [block.anchor for block in blocks if isinstance(block, Section) and block.anchor]
    named = Counter([*anchors, *(one.name for one in tabs)])
    if twice := [name for name, count in named.items() if count > 1]:
        raise ValueError(f"more than one part of the page is called {', '.join(twice)}")
    return _environment().get_template("page.html.j2").render(page=page)


def write_page(page: Page, path: Path) -> Path:
    """Writes a page as HTML and returns its path."""
    return write_text(as_html(page), path)


def write_text(text: str, path: Path) -> Path:
    """Writes a text with line feeds, half a character written out, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return path


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        MISSING=MISSING,
        css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        kind=lambda block: type(block).__name__,
        pieces=pieces,
        words=words,
        as_field=as_field,
        safe_address=safe_address,
        web_address=web_address,
        number=_NUMBER.fullmatch,
        look=_look,
        image=_image,
    )
    return environment


def _look(field: Field) -> str:
    """The classes of a field's text."""
    text = words(field.text)
    number = "number" if _NUMBER.fullmatch(text) else ""
    longest = max((len(word) for part in (text, *field.small) for word in part.split()), default=0)
    return " ".join(filter(None, (number, "anywhere" if longest > LONGEST_WORD else "")))


def _image(picture: Picture) -> str:
    """A figure as the address of an image."""
    # Heavier than all the rest of a run that found nothing to do.
    from ct_pipeline.report.figures.style import as_svg

    return "data:image/svg+xml;base64," + base64.b64encode(as_svg(picture.draw()).encode()).decode("ascii")
