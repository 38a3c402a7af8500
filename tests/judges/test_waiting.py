"""How long is waited before a server is asked again."""

import random
from datetime import UTC, datetime

import pytest

from ct_pipeline.judges.waiting import asked_wait, back_off

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 0.5 ", 0.5),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("inf", None),
        ("1e3", None),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert asked_wait(header, NOW) == seconds


def test_waits_double_up_to_the_longest():
    dice = random.Random(0)
    for tries, whole in ((1, 0.5), (2, 1.0), (3, 2.0), (8, 10.0), (1000, 10.0)):
        drawn = [back_off(tries, 0.5, 10.0, dice) for _ in range(50)]
        assert all(whole / 2 <= each <= whole for each in drawn)
        assert max(drawn) - min(drawn) > whole / 4
