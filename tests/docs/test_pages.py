"""All pages of docs/: listed, linked to what is there, with commands that exist and YAML that can be read."""

import re
import shlex

import pytest
import typer
import yaml

from ct_pipeline.cli import app
from tests.conftest import REPOSITORY
from tests.docs.pages import DOCS, PAGES, anchor, blocks, commands, headings, links

INDEX = DOCS / "README.md"
EVERY_PAGE = (*PAGES, REPOSITORY / "README.md")
COMMANDS = sorted({command for page in EVERY_PAGE for command in commands(page)})
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))

each_page = pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.relative_to(REPOSITORY).as_posix())


def test_the_index_lists_every_page():
    listed = {target.partition("#")[0] for target in links(INDEX)}
    unlisted = [page.relative_to(DOCS).as_posix() for page in PAGES if page != INDEX]
    assert [name for name in unlisted if name not in listed] == [], "give each a line in docs/README.md"


@each_page
def test_every_link_leads_somewhere(page):
    for target in links(page):
        name, _, place = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if place and file.suffix == ".md":
            assert place in map(anchor, headings(file.read_text())), target


@each_page
def test_every_page_that_is_named_is_there(page):
    names = re.findall(r"`(?:docs/)?([\w-]+\.md)`", page.read_text())
    ours = {"card.md", "report.md"}
    assert [name for name in names if name not in ours and not any(DOCS.rglob(name))] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_has_these_arguments(command):
    # A page's `[FILE]` is an argument that may be left out, and `...` is the reader's.
    words = [word.strip("[]") for word in shlex.split(re.split(r" [|>&]", command)[0]) if word != "|"]
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS
        return
    found = typer.main.get_command(app)
    context = found.make_context("ct-pipeline", words[1:])
    while hasattr(context.command, "commands"):
        name, found, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = found.make_context(name, rest, parent=context)


@each_page
def test_yaml_can_be_read(page):
    for block in blocks(page):
        if block.language in ("yaml", "yml"):
            assert list(yaml.safe_load_all(block.text)), block.text
