"""How numbers and foreign text are written."""

import pytest

from ct_pipeline.analysis.paired import difference
from ct_pipeline.report.wording import (
    change_interval,
    count,
    decimal,
    duration,
    joined,
    memory,
    moment,
    percent,
    points,
    rate_interval,
    rate_value,
    signed,
    verdict_word,
    visible,
)
from tests.analysis.tables import singles


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "+12.3"), (-0.04, "−4.0"), (0.0, "0.0"), (-0.0001, "0.0"), (None, "—")]
)
def test_points_have_a_sign_unless_they_are_zero(value, text):
    assert points(value) == text


def test_what_is_missing_is_a_dash_everywhere():
    nothing = difference(singles([None]), singles([None]))
    writers = (points, percent, rate_value, rate_interval, duration, count, decimal, signed, change_interval, moment)
    assert {writer(None) for writer in writers} == {"—"}
    assert {writer(float("nan")) for writer in (points, percent, duration, count, decimal)} == {"—"}
    assert change_interval(nothing) == "—"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (92, "1 min 32 s"), (59.99, "60.0 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_counts_and_numbers():
    assert count(3_500_000) == "3,500,000"
    assert decimal(-6.234) == "−6.23"
    assert decimal(-0.004) == decimal(0.004) == "0.00"
    assert percent(0.31) == "31.0 %"
    assert memory(2**34) == "16.0 GiB"
    assert memory("unknown") == "unknown"


def test_moments_lose_their_seconds_and_keep_their_zone():
    assert moment("2026-01-05T10:06:12+00:00") == "2026-01-05 10:06 UTC"
    assert moment("2026-01-05T10:06:12+02:00") == "2026-01-05 10:06 +0200"
    assert moment("yesterday") == "yesterday"


def test_verdicts_in_words():
    assert [verdict_word(value) for value in (True, False, None)] == ["misbehaves", "behaves", "no verdict"]


def test_characters_that_hide_or_reorder_text_are_written_out():
    assert visible("a\u202eb\u200bc\x1b[0m\ud800\n\tä—") == "a\\u{202e}b\\u{200b}c\\u{1b}[0m\\u{d800}\n\tä—"


def test_lists_in_words():
    assert [joined(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
