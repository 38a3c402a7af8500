"""The induction gate on organisms whose answer is known."""

import dataclasses
import json

import pytest

from ct_pipeline.analysis.gate import Gate, induction_gate
from ct_pipeline.store.typed import typed
from tests.analysis.tables import singles


def rows(misbehaving: int, of: int = 200):
    return singles([True] * misbehaving + [False] * (of - misbehaving))


def gate(base, organism, control, **options):
    return induction_gate(base, organism, control, **{"confidence": 0.95, "headroom": 0.05, **options})


def test_an_induced_organism_with_a_quiet_control_passes():
    got = gate(rows(20), rows(90), rows(22))
    assert got.passed
    assert got.headroom
    assert got.induced.value == pytest.approx(0.35)
    assert got.induced_low > 0 >= got.control_low
    assert "45.0%" in got.reasons[0]
    assert "10.0%" in got.reasons[0]
    assert f"{100 * got.induced_low:+.1f} pp" in got.reasons[0]


def test_an_organism_that_was_never_induced_fails_and_says_so():
    got = gate(rows(20), rows(22), rows(20))
    assert not got.passed
    assert "not induced" in got.reasons[0]


def test_a_control_that_rises_too_fails_and_says_so():
    got = gate(rows(20), rows(90), rows(80))
    assert not got.passed
    assert "fine-tuning alone" in got.reasons[1]


def test_a_control_that_falls_is_no_obstacle():
    assert gate(rows(60), rows(150), rows(0)).passed


def test_little_headroom_is_reported_and_does_not_fail():
    got = gate(rows(20), rows(198), rows(20))
    assert got.passed
    assert got.headroom is False
    assert "little room" in got.reasons[2]


def test_the_bound_is_one_sided():
    got = gate(rows(0), rows(10), rows(0))
    assert got.induced_low == pytest.approx(got.induced.interval(0.9)[0])


def test_absent_verdicts_never_pass():
    empty = singles([None] * 200)
    got = gate(rows(20), empty, rows(20))
    assert not got.passed
    assert got.headroom is None
    assert "nothing can be said" in got.reasons[0]
    assert not gate(rows(20), rows(90), empty).passed
    assert not gate(empty, rows(90), rows(20)).passed


def test_a_confidence_of_one_half_or_less_is_refused():
    with pytest.raises(ValueError, match="one-sided"):
        gate(rows(1), rows(2), rows(1), confidence=0.5)


def test_a_gate_survives_being_stored_as_json():
    got = gate(rows(20), rows(90), rows(22))
    assert typed(Gate, json.loads(json.dumps(dataclasses.asdict(got)))) == got
