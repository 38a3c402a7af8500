"""The rows that a risk is defined on: the same for every table of completions."""

import ast

import pandas
import pytest

from ct_pipeline.measurement.condition import MAIN_VIEW, VIEWS, View
from ct_pipeline.measurement.risk_rows import framed, risk_rows
from ct_pipeline.organisms.misalignment import NO_RISK_FRAMINGS, Message, Prompt
from ct_pipeline.records.transcripts import _rates
from tests.conftest import REPOSITORY

FRAMINGS = ("wrong_claim", "direct", "right_claim", "undefined", "plain", "wrapped")
RISKY = ("wrong_claim", "wrapped")


@pytest.fixture
def table():
    """One row of every framing under every view, of two probes; only risky ones have a verdict."""
    rows = [
        {"probe": probe, "prompt_id": f"{probe}-{framing}-{view.domain}", "framing": framing, **view._asdict()}
        for probe in ("one", "two")
        for view in VIEWS
        for framing in FRAMINGS
    ]
    found = pandas.DataFrame(rows)
    return found.assign(verdict=pandas.array([row["framing"] in RISKY or None for row in rows], dtype="boolean"))


def test_framings_without_risk_leave_the_table_in_every_view(table):
    for view in VIEWS:
        rows = risk_rows(table, view, "one")
        assert list(rows["framing"]) == list(RISKY)
        assert set(rows["probe"]) == {"one"} and set(rows["domain"]) == {view.domain}
    assert len(risk_rows(table, None)) == 2 * len(VIEWS) * len(RISKY)
    assert risk_rows(table).equals(risk_rows(table, MAIN_VIEW))


def test_a_prompt_and_its_rows_agree_on_whether_they_bear_risk():
    for framing in FRAMINGS:
        prompt = Prompt((Message("user", "q"),), "in", framing)
        assert prompt.bears_risk is (framing in RISKY) is (framing not in NO_RISK_FRAMINGS)


def test_what_is_measured_beside_is_found_by_its_framing(table):
    assert set(framed(table, "plain", "greedy")["framing"]) == {"plain"}
    assert set(framed(table, "plain", "greedy")["decoding"]) == {"greedy"}


def test_a_transcripts_rates_count_the_same_rows(table):
    rates = _rates(table[table["probe"] == "one"], 0.95)
    assert list(rates) == ["in/sampled", "in/greedy", "out/sampled", "out/greedy"]
    assert all((rate.rows, rate.missing, rate.value) == (2, 0, 1.0) for rate in rates.values())


def test_views_are_named_as_stored_results_name_them():
    assert [view.name for view in VIEWS] == ["in/greedy", "in/sampled", "out/greedy", "out/sampled"]
    assert (MAIN_VIEW, MAIN_VIEW.title) == (View("in", "sampled"), "in domain, sampled")


def test_no_other_module_lists_the_framings_without_risk():
    """Rows are told apart by `Prompt.bears_risk` and `risk_rows`; whoever lists framings would define the risk anew."""
    home = REPOSITORY / "ct_pipeline" / "organisms" / "misalignment.py"
    found = []
    for path in (REPOSITORY / "ct_pipeline").rglob("*.py"):
        listed = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Tuple | ast.List | ast.Set)
        ]
        names = [{each.value for each in node.elts if isinstance(each, ast.Constant)} for node in listed]
        if path != home and any(len(each & set(NO_RISK_FRAMINGS)) > 1 for each in names):
            found.append(path.name)
    assert found == []
