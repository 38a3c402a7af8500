"""The pages of docs/: their links, headings and blocks of code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = tuple(sorted(DOCS.rglob("*.md")))
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One block of a page: its language ("indented" for one without fences) and its text."""

    page: str
    language: str
    text: str


def blocks(page: Path) -> tuple[Block, ...]:
    """Every fenced block, and all indented lines as one more."""
    text = page.read_text()
    fenced = [Block(page.name, language, inside) for language, inside in _FENCED.findall(text)]
    bare = "\n".join(line[4:] for line in _FENCED.sub("", text).splitlines() if line.startswith("    "))
    return (*fenced, Block(page.name, "indented", bare))


def commands(page: Path) -> Iterator[str]:
    """Every line of a console block, or of an indented one, that calls ct-pipeline or make; comments are cut off."""
    for block in blocks(page):
        if block.language in ("console", "bash", "sh", "shell", "indented"):
            for line in block.text.replace("\\\n", " ").splitlines():
                command = re.sub(r"^(\$ |[A-Z_]+=\S+ )*", "", re.split(r"(?:^|\s)#", line)[0].strip())
                if command.startswith(("ct-pipeline ", "make ")):
                    yield command


def links(page: Path) -> tuple[str, ...]:
    """The targets of a page's links that lead to no other site."""
    return tuple(target for target in _LINK.findall(_FENCED.sub("", page.read_text())) if "://" not in target)


def headings(text: str) -> tuple[str, ...]:
    """The headings of a page in Markdown."""
    return tuple(re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE))


def anchor(heading: str) -> str:
    """What a heading is called in a link: small letters and hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
