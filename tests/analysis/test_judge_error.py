"""A judge's error rates, and changes of risk without them."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ct_pipeline.analysis.judge_error import corrected, differential, judge_error
from ct_pipeline.analysis.paired import difference

TRUTH = st.lists(st.tuples(st.booleans(), st.sampled_from((True, False, None))), max_size=60)


def counted(hits, positives, alarms, negatives):
    """The error of a judge who says True of so many of so many."""
    labels = [True] * positives + [False] * negatives
    said = [n < hits for n in range(positives)] + [n < alarms for n in range(negatives)]
    return judge_error(labels, said)


def changes(before, after):
    """A change of one verdict a prompt."""
    tables = [pd.DataFrame({"prompt": range(len(side)), "verdict": side}) for side in (before, after)]
    return difference(*tables)


def test_rates_have_exact_intervals():
    error = counted(18, 20, 3, 30)
    assert (error.true_positive.value, error.false_positive.value) == (0.9, 0.1)
    assert (error.true_positive.low, error.true_positive.high) == pytest.approx(
        stats.binomtest(18, 20).proportion_ci(0.95, "exact")
    )
    assert (error.false_positive.low, error.false_positive.high) == pytest.approx(
        stats.binomtest(3, 30).proportion_ci(0.95, "exact")
    )
    assert error.slope == pytest.approx(0.8)


@given(TRUTH)
def test_rates_are_counts(rows):
    error = judge_error([label for label, _ in rows], [said for _, said in rows])
    for side, truth in ((error.true_positive, True), (error.false_positive, False)):
        said = [verdict for label, verdict in rows if label is truth]
        known = [verdict for verdict in said if verdict is not None]
        assert (side.rows, side.missing) == (len(said), len(said) - len(known))
        assert side.value == (pytest.approx(sum(known) / len(known)) if known else None)
    assert error.slope is None or -1 <= error.slope <= 1


def test_an_answer_without_a_label_is_refused():
    with pytest.raises(ValueError, match="1 answers have no label"):
        judge_error([True, None], [True, True])
    with pytest.raises(ValueError, match="2 labels and 1 verdicts"):
        judge_error([True, False], [True])


def test_a_perfect_judge_changes_little():
    change = changes([False] * 200, [n < 60 for n in range(200)])
    found = corrected(change, counted(2000, 2000, 0, 2000))
    assert found.value == change.value
    assert (found.low, found.high) == pytest.approx((change.low, change.high), abs=0.001)


def test_the_factor_is_one_over_the_slope():
    change = changes([False] * 200, [n < 60 for n in range(200)])
    found = corrected(change, counted(80, 100, 20, 100))
    assert found.factor == pytest.approx(1 / 0.6)
    assert found.value == pytest.approx(0.3 / 0.6)
    # Delta method, by hand: Var(d/J) = Var(d)/J² + d² Var(J)/J⁴.
    smoothed = 81 / 102
    variance = 2 * smoothed * (1 - smoothed) / 102
    by_hand = math.sqrt(change.standard_error**2 / 0.36 + change.centre**2 * variance / 0.6**4)
    assert found.standard_error == pytest.approx(by_hand)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("counts", [(0, 0, 1, 10), (5, 10, 5, 10), (6, 10, 4, 10), (1, 10, 9, 10)])
def test_a_judge_not_told_from_chance_corrects_nothing(counts):
    found = corrected(changes([False] * 50, [True] * 50), counted(*counts))
    assert (found.value, found.low, found.high, found.factor) == (None, -1, 1, None)
    assert found.problem


@given(
    st.integers(0, 40), st.integers(0, 40), st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40)
)
def test_a_correction_never_shrinks_a_change_and_keeps_its_sign(hits, alarms, pairs):
    change = changes([a for a, _ in pairs], [b for _, b in pairs])
    found = corrected(change, counted(hits, 40, alarms, 40))
    if found.value is None:
        assert (found.low, found.high) == (-1, 1)
    else:
        assert abs(found.value) >= abs(change.value)
        assert found.value * change.value >= 0
        assert -1 <= found.low <= found.value <= found.high <= 1


def test_the_corrected_interval_covers_the_true_change():
    # True risks 0.3 and 0.5 through a judge with TPR 0.85 and FPR 0.1, calibrated on 80 answers of either kind.
    generator = np.random.default_rng(5)
    covered = uncorrected = 0
    for _ in range(300):
        truth = [generator.random(200) < risk for risk in (0.3, 0.5)]
        seen = [np.where(side, generator.random(200) < 0.85, generator.random(200) < 0.1) for side in truth]
        change = changes(*(side.tolist() for side in seen))
        error = counted(generator.binomial(80, 0.85), 80, generator.binomial(80, 0.1), 80)
        found = corrected(change, error)
        covered += found.low <= 0.2 <= found.high
        uncorrected += change.low <= 0.2 <= change.high
    assert covered >= 276
    assert uncorrected < covered


def test_differential_error_is_warned_of():
    before, after = counted(45, 50, 5, 50), counted(45, 50, 25, 50)
    found = differential(before, after)
    assert found.p_value == pytest.approx(2 * stats.fisher_exact([[5, 45], [25, 25]]).pvalue)
    assert found.warning.startswith("differential error: the judge errs differently")
    # Nobody misbehaves in either arm, and the judge shows 40 points all the same.
    assert found.apparent(0.0) == pytest.approx(0.4)
    assert found.apparent(1.0) == pytest.approx(0.0)
    assert differential(before, before).warning == ""
    assert differential(before, before).p_value == 1


def test_unchecked_differential_error_is_warned_of():
    found = differential(counted(0, 0, 0, 0), counted(5, 10, 5, 10))
    assert (found.true_positive, found.p_value, found.apparent(0.5)) == (None, None, None)
    assert "unchecked" in found.warning


def test_the_alarm_is_rare_where_the_judge_errs_alike():
    generator = np.random.default_rng(2)
    arms = [
        [counted(generator.binomial(60, 0.85), 60, generator.binomial(60, 0.15), 60) for _ in range(2)]
        for _ in range(300)
    ]
    alarms = sum(differential(*pair).p_value < 0.05 for pair in arms)
    assert alarms <= 25
