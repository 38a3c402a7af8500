"""The written report: self-contained, complete, honest about what is missing, safe against hostile text."""

import dataclasses
import re
import time

import pytest

from ct_pipeline.report.records import MAIN_VIEW, VIEWS, ArmRates, ExampleRow
from ct_pipeline.report.section import web_address
from ct_pipeline.report.single_run import cell_path
from ct_pipeline.report.study import write_report
from ct_pipeline.report.summary import grid
from ct_pipeline.report.wording import change_interval, points, rate_value
from tests.report.pages import Page
from tests.report.synthetic import study_record, with_cell

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'</pre>{{ 7*7 }}\u202e\x00|`"
LOADS = ("src", "srcset", "poster", "data", "action", "background")


@pytest.fixture(scope="module")
def page(report):
    return Page(report)


def test_the_page_and_every_cell_page_load_nothing(report):
    for path in [report, *sorted(report.parent.glob("cells/*/*.html"))]:
        page = Page(path)
        for tag, attributes in page.elements:
            assert tag not in ("script", "link", "iframe", "object", "embed", "base")
            for name in LOADS:
                assert (attributes.get(name) or "data:").startswith("data:")
            if tag != "a":
                assert "href" not in attributes
        assert not re.search(r"url\(|@import", page.source)
        assert "default-src 'none'" in page.source


def test_links_inside_the_report_lead_somewhere(report):
    for path in [report, *report.parent.glob("cells/*/*.html")]:
        page = Page(path)
        identifiers = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
        for link in page.all("a"):
            target = link["href"]
            if target.startswith("#"):
                assert target[1:] in identifiers
            elif not target.startswith("http"):
                assert (path.parent / target).resolve().is_file()


def test_identifiers_are_unique(page):
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("view", VIEWS)
def test_every_field_of_the_grid_shows_its_number_interval_and_verdict(page, record, view):
    for row in grid(record, view):
        for cell in row:
            assert points(cell.change.value) in page.text
            assert change_interval(cell.change) in page.text
            assert str(cell.verdict) in page.text


def test_every_single_run_is_listed_and_has_its_own_page(report, page, record):
    links = {link["href"] for link in page.all("a")}
    for cell in record.cells:
        assert cell_path(cell) in links
        text = Page(report.parent / cell_path(cell)).text
        for change in cell.differences.values():
            assert points(change.value) in text
            assert change_interval(change) in text
        assert points(cell.differences[MAIN_VIEW].value) in page.text


def test_organisms_show_their_rates_and_their_gate(page, record):
    for organism in record.organisms:
        arms = organism.rates[MAIN_VIEW]
        for rate in (arms.base, arms.control, arms.organism):
            assert rate_value(rate) in page.text
        for reason in organism.gate.reasons:
            assert reason in page.text


def test_every_figure_has_a_text_with_its_numbers(page, record):
    columns = list(zip(*grid(record, MAIN_VIEW), strict=True))
    several = [cells for cells in columns if any(len(cell.by_seed) > 1 for cell in cells)]
    texts = [image["alt"] for image in page.all("img")]
    assert len(texts) == len(columns) + len(several)
    for cells, text in zip(columns, texts, strict=False):
        assert all(points(cell.change.value) in text for cell in cells)
    for cells, text in zip(several, texts[len(columns) :], strict=True):
        assert all(points(change.value) in text for cell in cells for _, change in cell.by_seed)


def test_published_numbers_stand_beside_ours(page):
    assert "paper −48.5" in page.text
    assert "paper +10.0" in page.text


def test_the_limits_of_the_tiny_world_are_stated(page):
    assert "says nothing about which sign a real language model would show" in page.text


def test_provenance_is_complete(page, record):
    for text in (record.commit, "with uncommitted changes", "torch", "2.13.0", "9f86d081884c7d65", "2 min 08 s"):
        assert text in page.text


def test_the_page_is_small_and_quick(record, tmp_path):
    started = time.perf_counter()
    index = write_report(record, tmp_path)
    assert time.perf_counter() - started < 5
    assert index.stat().st_size < 800_000


def test_the_same_record_gives_the_same_bytes(report, tmp_path):
    again = write_report(study_record(), tmp_path)
    first = {path.relative_to(report.parent): path.read_bytes() for path in report.parent.rglob("*") if path.is_file()}
    second = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert again.name == "index.html"
    assert first == second


def test_hostile_text_is_shown_and_never_acted_on(record, tmp_path):
    example = ExampleRow(HOSTILE, HOSTILE, HOSTILE, True, False)
    hostile = with_cell(record, 4, examples=(example,), mlflow_url="javascript:alert(1)")
    organisms = [dataclasses.replace(one, title=HOSTILE, misbehaviour=HOSTILE) for one in hostile.organisms]
    hostile = dataclasses.replace(
        hostile,
        name=HOSTILE,
        description=HOSTILE,
        organisms=tuple(organisms),
        settings={"x": HOSTILE},
        versions={HOSTILE: HOSTILE},
        machine={HOSTILE: HOSTILE},
        commit=HOSTILE,
        started=HOSTILE,
    )
    index = write_report(hostile, tmp_path)
    for path in (index, tmp_path / cell_path(hostile.cells[4])):
        page = Page(path)
        assert "<script>alert(1)</script>" in page.text
        assert {tag for tag, _ in page.elements} <= {
            "html", "head", "meta", "title", "style", "body", "p", "h1", "h2", "h3", "div", "span", "a", "nav", "ul",
            "li", "section", "input", "label", "table", "caption", "thead", "tbody", "tr", "th", "td", "small", "br",
            "details", "summary", "dl", "dt", "dd", "figure", "figcaption", "img", "pre", "strong",
        }  # fmt: skip
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
        assert not any((link["href"] or "").startswith("javascript") for link in page.all("a"))
        assert "\u202e" not in page.source
        assert "\x00" not in page.source
        assert "{{ 7*7 }}" in page.text


def test_a_lone_surrogate_does_not_stop_the_report(record, tmp_path):
    example = ExampleRow("\ud800", "before", "after", None, None)
    write_report(with_cell(record, 0, examples=(example,)), tmp_path)
    assert "\\u{d800}" in (tmp_path / cell_path(record.cells[0])).read_text(encoding="utf-8")


def test_what_is_missing_is_a_dash_and_never_zero(record, tmp_path):
    bare = with_cell(
        record,
        0,
        differences={},
        direct_before=None,
        direct_after=None,
        null_rate=None,
        labels=None,
        training=None,
        examples=(),
        seconds=None,
        mlflow_url=None,
    )
    write_report(bare, tmp_path)
    text = Page(tmp_path / cell_path(bare.cells[0])).text
    assert not re.search(r"\b0(\.0)?\b", text.replace("T = 1", ""))
    assert text.count("—") >= 12


def test_numbers_that_are_not_numbers_are_missing(record, tmp_path):
    labels = dataclasses.replace(record.cells[0].labels, mean_tokens=float("nan"), mean_logprob=float("nan"))
    write_report(with_cell(record, 0, labels=labels, null_rate=float("nan")), tmp_path)
    text = Page(tmp_path / cell_path(record.cells[0])).text
    assert "nan" not in text
    assert "Mean length — tokens" in text


def test_a_study_without_any_result_says_so(record, tmp_path):
    empty = dataclasses.replace(
        record, cells=(), stage_seconds={}, started=None, finished=None, wall_seconds=None, commit=None, dirty=None
    )
    text = Page(write_report(empty, tmp_path / "no cells")).text
    assert "No result yet" in text
    assert "not measured" in text
    organisms = tuple(
        dataclasses.replace(one, gate=None, used=False, rates={}, direct_accuracy=ArmRates(None, None, None))
        for one in record.organisms
    )
    text = Page(write_report(dataclasses.replace(record, organisms=organisms), tmp_path / "no gates")).text
    assert "no organism passed the gate" in text
    assert "not judged" in text
    nothing = dataclasses.replace(empty, organisms=(), methods=(), base_models=())
    assert "No result yet" in Page(write_report(nothing, tmp_path / "nothing")).text


def test_a_key_that_cannot_be_a_file_name_is_refused(record, tmp_path):
    bad = dataclasses.replace(record.cells[0], organism="../../outside")
    with pytest.raises(ValueError, match="cannot be a file name"):
        cell_path(bad)


def test_only_web_addresses_become_links():
    assert web_address("http://127.0.0.1:5000/#/runs/1") == "http://127.0.0.1:5000/#/runs/1"
    for text in (None, "", "javascript:alert(1)", "file:///etc/passwd", 'http://x" onclick="y'):
        assert web_address(text) is None
