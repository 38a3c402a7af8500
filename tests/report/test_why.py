"""Why it changed: shift and selection, arms, curves, divergences and doses, from known numbers to the page and its tables."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest

from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.report.as_markdown import as_markdown
from ct_pipeline.report.averages import CHANGE, RATE, UNLIMITED, over_seeds_term
from ct_pipeline.report.curves import curves, missing_scores_sentence, simpson_sentence
from ct_pipeline.report.divergences import divergences
from ct_pipeline.report.doses import dose_curves
from ct_pipeline.report.figures.bars import small_split_plots, split_limits, split_plot
from ct_pipeline.report.figures.lines import curve_numbers, dose_plot, k_plot, rank_plot, small_k_plots
from ct_pipeline.report.figures.small import small_dose_plot, small_shift_plot
from ct_pipeline.report.figures.style import as_png, as_svg
from ct_pipeline.report.single_run import cell_path
from ct_pipeline.report.split import split_sentences, splits
from ct_pipeline.report.study import study_page, write_report
from ct_pipeline.report.tables import report_tables
from tests.report.pages import Page
from tests.report.synthetic import study_record, term, with_causes


@pytest.fixture(scope="module")
def explained(record):
    return with_causes(record)


@pytest.fixture(scope="module")
def folder(explained, tmp_path_factory):
    return write_report(explained, tmp_path_factory.mktemp("why")).parent


@pytest.fixture(scope="module")
def page(folder):
    return Page(folder / "index.html")


def by_method(rows):
    return {row.method.name: row for row in rows}


def test_a_mean_over_seeds_is_their_mean_and_covers_their_spread():
    spread = over_seeds_term([term(0.1), term(0.2), term(0.3)], 0.95)
    alike = over_seeds_term([term(0.2)] * 3, 0.95)
    assert spread.value == pytest.approx(0.2) == alike.value
    assert spread.low < alike.low < 0.2 < alike.high < spread.high
    assert spread.prompts == 100


def test_what_is_zero_by_definition_stays_so_and_what_is_unknown_stays_unknown():
    nothing = Estimate(None, None, None, None, 0)
    assert over_seeds_term([term(0.0, 0.0)] * 3, 0.95) == Estimate(0.0, 0.0, 0.0, 0.0, 100)
    assert over_seeds_term([nothing], 0.95, RATE) == Estimate(None, 0.0, 1.0, None, 0)
    assert over_seeds_term([nothing, term(0.3)], 0.95).value == pytest.approx(0.3)
    unknown = Estimate(0.3, -1.0, 1.0, None, 1)
    assert over_seeds_term([unknown], 0.95) == Estimate(0.3, -1.0, 1.0, None, 1)


@pytest.mark.parametrize(("limits", "high"), [(CHANGE, 1.0), (UNLIMITED, None)])
def test_an_interval_is_cut_to_what_is_possible(limits, high):
    got = over_seeds_term([term(0.9, 0.4), term(0.95, 0.4), term(1.0, 0.4)], 0.95, limits)
    assert got.high == high if high else got.high > 1.0


def test_shift_and_selection_add_up_in_every_mean(explained):
    for one in splits(explained):
        for base, moved in (("sampled", 0.10), ("greedy", 0.02)):
            rows = by_method(one.labels[base])
            assert set(rows) == {"null", "greedy_self_training", "self_confidence", "self_rewarding"}
            for row in rows.values():
                assert row.parts["shift"].value == pytest.approx(moved)
                assert sum(part.value for part in row.parts.values()) == pytest.approx(row.total.value)
            assert rows["self_rewarding"].parts["selection"].value == pytest.approx(-0.04)


def test_arms_are_shown_where_the_study_has_them(explained):
    arms = by_method(splits(explained)[0].arms)
    assert set(arms) == {"null", "self_confidence", "self_rewarding"}
    assert set(arms["null"].parts) == {"drift", "shift", "selection"}


def test_the_larger_part_is_counted_per_base(explained):
    first, second = split_sentences(splits(explained), 0.05)
    assert "in 8 of 8 against the organism's own T = 1 answers and in 0 of 8 against" in first
    assert "of 12 combinations with all arms" in second


def test_curves_are_means_over_seeds_and_say_what_missing_scores_change(explained):
    found = curves(explained)
    for one in (curve for group in found for curve in group.k_curves):
        assert one.mean[0] == (1, pytest.approx(0.50), pytest.approx(0.0))
        assert one.mean[7] == (8, pytest.approx(0.43), pytest.approx(-0.07))
        assert one.missing_effect == pytest.approx(0.005)
    assert "by at most 0.5 points" in missing_scores_sentence(found)
    assert missing_scores_sentence(()) is None


def test_a_pooled_score_that_slopes_the_other_way_is_warned_of(explained):
    found = curves(explained)
    curve = found[0].rank_curves[0]
    risks = [mean.value for _, mean in curve.within]
    assert risks[0] == pytest.approx(0.55)
    assert risks[-1] == pytest.approx(0.45)
    pooled = [risk for _, risk in curve.pooled]
    assert pooled == sorted(pooled)
    assert pooled[-1] == pytest.approx(0.6)
    text = simpson_sentence(found)
    runs = sum(one.seeds for group in found for one in group.rank_curves)
    warned = sum(one.warnings for group in found for one in group.rank_curves)
    assert text.startswith(f"Warning (Simpson's paradox): in {warned} of {runs} runs")
    assert 0 < warned < runs


def test_point_masses_drawn_laws_and_teacher_shifts_stand_apart(explained):
    drawn, point, teacher = divergences(explained)
    assert [method.name for method, _ in drawn.rows] == ["null", "self_confidence", "self_rewarding"]
    assert [method.name for method, _ in point.rows] == ["greedy_self_training"]
    assert [method.name for method, _ in teacher.rows] == ["bct"]
    field = {method.name: fields for method, fields in drawn.rows}["self_confidence"][0]
    assert field.kl.status == "bound"
    assert (field.kl.sequence.value, field.kl.token.value) == pytest.approx((2.5, 0.25))
    assert field.forward.sequence.value == pytest.approx(0.8)


def test_dose_curves_have_a_point_per_step_that_all_seeds_have(explained):
    for _, (curve,) in dose_curves(explained):
        assert curve.method.name == "bct"
        assert [step for step, _ in curve.mean] == [8, 16, 24]


def test_a_report_without_causes_has_no_such_section(report):
    page = Page(report)
    identifiers = {attributes.get("id") for _, attributes in page.elements}
    assert not identifiers & {"why", "split", "k-curves", "ranks", "kl", "doses"}
    names = {path.stem for path in (report.parent / "tables").glob("*.csv")}
    assert not names & {"shift_and_selection", "arms", "k_curves", "rank_profiles", "kl", "doses"}
    assert not list((report.parent / "figures").iterdir())


def test_the_page_has_every_part_and_the_contents_lead_there(page):
    identifiers = {attributes.get("id") for _, attributes in page.elements}
    assert {"why", "split", "k-curves", "ranks", "kl", "doses", "predicted"} <= identifiers
    assert {"#why", "#predicted"} <= {link["href"] for link in page.all("a")}
    for text in ("finds ±", "uptake 0.80, backward 0.90", "Warning (Simpson's paradox)", "+10.0"):
        assert text in page.text


def test_every_picture_has_a_text_and_a_table_with_the_same_numbers(page):
    texts = [image["alt"] for image in page.all("img")]
    assert all(len(text) > 40 for text in texts)
    told = [text for text in texts if "labels against" in text]
    assert len(told) == 8
    assert all("Self-rewarding: shift +10.0, selection −4.0, sum +6.0" in text for text in told[:4])
    assert page.source.count("<summary>The numbers</summary>") >= len(texts) - 2


def test_the_tables_hold_what_the_pictures_show(folder):
    table = pd.read_parquet(folder / "tables" / "shift_and_selection.parquet")
    keyed = table.set_index(["kind", "method", "against", "part"])["value"]
    assert keyed["sycophancy", "self_rewarding", "sampled", "total"] == pytest.approx(0.06)
    kl = pd.read_csv(folder / "tables" / "kl.csv")
    assert set(kl["quantity"]) == {"labels", "teacher shift", "uptake forward", "uptake backward"}
    assert set(kl["status"]) == {"exact", "unbiased", "bound"}
    curve = pd.read_csv(folder / "tables" / "k_curves.csv")
    assert set(curve["missing"]) == {"worst", "dropped"}
    for name in ("arms", "arms_by_run", "rank_profiles", "rank_profile_means", "doses"):
        assert len(pd.read_csv(folder / "tables" / f"{name}.csv"))


def test_a_run_without_causes_is_in_no_table_of_theirs(explained):
    bare = explained.cells[0]
    for name in ("kl", "k_curves", "doses", "arms_by_run"):
        table = report_tables(explained)[name]
        assert not ((table["organism"] == bare.organism) & (table["method"] == bare.method)).any()


def test_a_single_run_says_why(folder, explained):
    cell = next(one for one in explained.cells[1:] if one.method == "self_rewarding")
    text = Page(folder / cell_path(cell)).text
    for part in ("Predicted change", "Shift from sampled +10.0", "best of k, bound", "Uptake, KL(retrained‖organism)"):
        assert part in text


def test_markdown_says_why(explained):
    text = as_markdown(study_page(explained))
    assert "## Why: shift and selection" in text
    assert "| Method | Shift | Selection | Sum |" in text
    assert re.search(r"\| Self-rewarding \| \+10\.0 \([^|]*\) \| −4\.0 \([^|]*\) \| \+6\.0 \(", text)
    assert "The minimum detectable effect, called with 80 % power" in text


def test_the_same_record_gives_the_same_bytes(folder, tmp_path):
    write_report(with_causes(study_record()), tmp_path)
    for path in (folder / "index.html", *(folder / "figures").iterdir()):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_pictures_for_other_pages_are_small(folder):
    sizes = {path.name: path.stat().st_size for path in (folder / "figures").iterdir()}
    assert set(sizes) == {"shift_and_selection.png", "predictions.png", "k_curves.png"}
    assert max(sizes.values()) < 60_000


def test_figures_are_well_formed_small_and_survive_gaps(explained):
    one, group = splits(explained)[0], curves(explained)[0]
    numbers = curve_numbers([group.k_curves])
    rows = one.labels["sampled"]
    nothing = Estimate(None, None, None, None, 0)
    gap = dataclasses.replace(rows[0], total=nothing, parts={**rows[0].parts, "shift": nothing})
    (column, doses), *_ = dose_curves(explained)
    figures = [
        split_plot((gap, *rows[1:]), split_limits((gap, *rows[1:]))),
        split_plot(one.arms, split_limits(one.arms)),
        k_plot(group.k_curves, numbers),
        rank_plot(group.rank_curves),
        dose_plot([(column.title, doses)], 0.05, {"bct": 0}),
    ]
    for figure in figures:
        assert ElementTree.fromstring(as_svg(figure)).tag.endswith("svg")
    small = [
        small_split_plots([("$a", rows), ("b", rows), ("c", rows)], (-20, 20)),
        small_k_plots([("a", group.k_curves)], numbers),
        small_shift_plot(rows[:2], group.k_curves[0], group.rank_curves[0]),
        small_shift_plot(rows[:2], None, None),
        small_dose_plot(doses[0].mean, doses[0].method, 0.05),
    ]
    for figure in small:
        picture = as_png(figure)
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 60_000
