"""One section, three renderers: HTML, Markdown and metadata say the same, and a stranger's text stays text in all of them."""

import dataclasses
import re

import pytest
from matplotlib.figure import Figure

from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.rates import rate
from ct_pipeline.report.as_html import as_html, write_page
from ct_pipeline.report.as_markdown import as_markdown, markdown
from ct_pipeline.report.as_metadata import Picture as Shown
from ct_pipeline.report.as_metadata import Prose, Rows, as_metadata
from ct_pipeline.report.flat import as_metrics, row_of
from ct_pipeline.report.section import (
    Answers,
    Code,
    Details,
    Field,
    Legend,
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
    safe_address,
    walk,
)
from ct_pipeline.report.study import write_report
from tests.report import pages

SLY = "<script>x</script>|`*[a](javascript:b)_\u202e\x00{{ 1 }}</pre>\"'"
ADDRESSES = ("javascript:alert(1)", "data:text/html,x", "//host/x", "file:///x", "http://x y", 'a"b', "/etc/passwd")


def section(text, table="37"):
    """Every kind of block, each with the text."""
    rows = [(text, Field(f"{table} {text}", (text,), ("#ffffff", "#000000"))), (text, Field(text, folded=(text,)))]
    numbers = Table((text, Field(f"{text} value", (text,))), rows, text)
    return Section(
        text,
        [
            Text((text, Strong(text), Link(text, "#there"), *(Link(text, each) for each in ADDRESSES)), soft=True),
            Sentences([text, text]),
            Legend(text, [text]),
            Terms([(text, text)]),
            numbers,
            Pictures([Picture(text, Figure, text, numbers), Picture(text, Figure, text, None)]),
            Answers(text, [(text, text)]),
            Code(text),
            Details(text, [Text(text)]),
            Tabs("tabs", [(text, [Text(text)]), (text, [Text(text)])]),
            Section(text, [Table((), [(text, Field(text, share=0.5))])]),
        ],
        "there",
    )


def page(*sections, contents=False):
    return Page("title", "kicker", "heading", [Text("lead")], sections, contents)


def test_a_strangers_text_is_text_in_every_block_of_a_page(tmp_path):
    got = pages.Page(write_page(page(section(SLY), contents=True), tmp_path / "page.html"))
    assert "script" not in {tag for tag, _ in got.elements}
    assert {link["href"] for link in got.all("a")} == {"#there"}
    assert "\u202e" not in got.source and "\x00" not in got.source
    # 13 texts and titles, 7 links that lead nowhere, the tables: nothing of it is lost.
    assert got.text.count("<script>x</script>") > 40


def test_a_strangers_text_is_text_in_markdown():
    text = as_markdown(page(section(SLY)), "index.html")
    kept = [line for line in text.splitlines() if not line.startswith("    ")]
    assert not re.search(r"(?<!\\)[<`]", "\n".join(kept))
    assert {target for _, target in re.findall(r"(?<!\\)\[(.*?)(?<!\\)\]\(([^)]*)\)", "\n".join(kept))} == {
        "#there",
        "index.html",
        "index.html#there",
    }
    assert "\u202e" not in text and "\x00" not in text
    rows = [line.replace("\\|", "") for line in kept if line.startswith("|")]
    assert rows and {line.count("|") for line in rows} == {3}


def test_page_and_markdown_say_the_same(tmp_path):
    one = section("word")
    got, text = pages.Page(write_page(page(one), tmp_path / "page.html")).text, as_markdown(page(one))
    for said in ("37 word", "word value", "word"):
        assert said in got and said in text
    assert text.startswith("# heading\n\nlead\n\n## word\n") and "\n### word\n" in text
    assert "| word | 37 word (word) |" in text
    assert '<h2 id="there">word</h2>' in as_html(page(one)) and "<h3>word</h3>" in as_html(page(one))


def test_what_is_folded_is_named_in_markdown_and_leads_to_the_page():
    details = Section("Runs", [Details("all 12 runs", [Text("a long list")])], "runs")
    text = as_markdown(page(details), "index.html")
    assert "- [all 12 runs](index.html#runs)" in text and "a long list" not in text
    assert "- all 12 runs" in markdown([details]) and "a long list" in as_html(page(details))


def test_a_table_too_wide_for_markdown_is_told_in_words():
    wide = Picture("curve", Figure, "from 1 to 2", Table([str(each) for each in range(20)], [["x"] * 20]))
    assert "from 1 to 2" in markdown([wide]) and "|" not in markdown([wide])


def test_a_field_may_be_a_number_a_link_or_missing(tmp_path):
    table = Section("t", [Table(("a", "b", "c"), [(3, Link("x", "#t"), None)])], "t")
    assert "| 3 | [x](#t) | — |" in markdown([table])
    assert "3 x —" in pages.Page(write_page(page(table), tmp_path / "page.html")).text


def test_a_table_without_rows_is_a_dash(tmp_path):
    empty = Section("none", [Table(("a", "b"), [])])
    assert "—" in markdown([empty])
    assert "—" in pages.Page(write_page(page(empty), tmp_path / "page.html")).text


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_leaves_the_report_is_no_link(address):
    assert safe_address(Link("x", address)) is None


@pytest.mark.parametrize("address", ["https://a.b/c?d=1", "#part", "cells/a-1/b_c.html", "../../index.html", "tables/"])
def test_the_web_and_the_reports_own_files_are_links(address):
    assert safe_address(Link("x", address)) == address


def test_two_parts_of_a_page_may_not_have_one_name():
    with pytest.raises(ValueError, match="called there"):
        as_html(page(section("a"), dataclasses.replace(section("b"), blocks=())))
    with pytest.raises(ValueError, match="called tabs"):
        as_html(page(section("a"), dataclasses.replace(section("b"), anchor="elsewhere")))


def test_tabs_that_a_page_cannot_show_are_refused():
    many = Tabs("many", [(str(each), [Text("x")]) for each in range(9)])
    with pytest.raises(ValueError, match="more than 8"):
        as_html(page(Section("a", [many])))


def test_walk_finds_blocks_inside_others():
    kinds = {type(block) for block in walk([section("a")])}
    assert {Section, Picture, Text, Table} <= kinds


def test_a_section_from_outside_stands_in_page_contents_and_markdown_before_the_limits(record, tmp_path):
    probe = Section("A probe", [Table(("Layer", "AUC"), [("3", "0.71")])], "probe", "Probe")
    got = pages.Page(write_report(record, tmp_path, [probe]))
    text = (tmp_path / "report.md").read_text()
    headings = [attributes["id"] for tag, attributes in got.elements if tag == "h2"]
    assert headings.index("probe") == headings.index("limits") - 1
    assert "#probe" in {link["href"] for link in got.all("a")}
    assert text.index("## Answers before and after") < text.index("## A probe") < text.index("## What this can and")
    assert "0.71" in got.text and "| 3 | 0.71 |" in text


def test_metadata_has_rows_pictures_and_words():
    found = as_metadata(section("word"))
    assert found["word"] == Rows(
        ({"word": "word", "word value": "37 word (word)"}, {"word": "word", "word value": "word"})
    )
    assert isinstance(found["word_2"], Shown) and (type(found["word_2"].figure), found["word_2"].text) == (
        Figure,
        "word",
    )
    assert found["word_in_words_2"] == Prose("- word\n- word\n")
    assert Rows(({"name": "word", "value": "word"},)) in found.values()


def test_metrics_are_all_numbers_of_a_result_by_their_names():
    part = Estimate(0.25, 0.1, None, float("nan"), 7)
    kl = KlEstimate("proposal", "exact", part, Estimate(None, 0.0, 1.0, None, 0))
    assert as_metrics(kl, "kl") == {
        "kl_sequence": 0.25,
        "kl_sequence_low": 0.1,
        "kl_sequence_prompts": 7.0,
        "kl_token_prompts": 0.0,
    }
    assert as_metrics({("in", "sampled"): part, "passed": True, "name": "x", "none": None}) == {
        "in_sampled": 0.25,
        "in_sampled_low": 0.1,
        "in_sampled_prompts": 7.0,
        "passed": 1.0,
    }
    assert as_metrics(rate([True, False]))["value"] == 0.5


def test_a_row_takes_what_is_there_and_no_bounds_of_what_is_missing():
    columns = {"a": "sequence.value", "low": "token.low", "deep": lambda one: one.name.upper()}
    kl = KlEstimate("bound", "exact", Estimate(0.25, 0.1, None, None, 7), Estimate(None, 0.0, 1.0, None, 0))
    assert row_of(kl, columns) == {"a": 0.25, "low": None, "deep": "BOUND"}
    assert row_of(None, {"a": "sequence.value"}) == {"a": None}
    with pytest.raises(AttributeError):
        row_of(kl, {"a": "sequenze.value"})
