"""Schedules: which texts are one, and when one was last due; cases reckoned by hand on a calendar."""

from datetime import UTC, datetime

import pytest

from ct_pipeline.settings.cron import is_cron, last_due

NOW = datetime(2026, 11, 18, 12, 30, 20, tzinfo=UTC)
"""A Wednesday."""


@pytest.mark.parametrize(
    ("cron", "due"),
    [
        ("* * * * *", "2026-11-18 12:30"),
        ("30 12 * * *", "2026-11-18 12:30"),
        ("31 12 * * *", "2026-11-17 12:31"),
        ("0 6 * * 1", "2026-11-16 06:00"),
        ("0 6 * * 7", "2026-11-15 06:00"),
        ("0 6 * * 0", "2026-11-15 06:00"),
        ("0 13 * * 3", "2026-11-11 13:00"),
        ("*/20 8-10 * * *", "2026-11-18 10:40"),
        ("5/25 0 * * *", "2026-11-18 00:55"),
        ("0 0 1,15 * *", "2026-11-15 00:00"),
        ("0 0 31 * *", "2026-10-31 00:00"),
        ("0 0 29 2 *", "2024-02-29 00:00"),
        ("0 0 31 2 *", None),
        # Both days given: either will do.
        ("0 0 13 * 2", "2026-11-17 00:00"),
        ("0 0 17-19 11 5", "2026-11-18 00:00"),
        # As Dagster reads them, whose schedules these become: 7 with a step begins on Sunday and goes on, 4 does not reach 7.
        ("0 12 * * 7/3", "2026-11-18 12:00"),
        ("0 20 * * 4/3", "2026-11-12 20:00"),
    ],
)
def test_when_a_schedule_was_last_due(cron, due):
    assert is_cron(cron)
    found = last_due(cron, NOW)
    assert (found and f"{found:%Y-%m-%d %H:%M}") == due
    assert found is None or (found.tzinfo is UTC and found <= NOW)


@pytest.mark.parametrize(
    "text",
    [
        *("", "* * * *", "* * * * * *", "60 * * * *", "* * 0 * *", "* * * * 8", "*/0 * * * *", "5-4 * * * *"),
        *(
            "a * * * *",
            "@daily",
            "* * * * mon",
            "-1 * * * *",
            "4-4 * * * *",
            "*,4 * * * *",
            "1,,2 * * * *",
            "٣ * * * *",
        ),
    ],
)
def test_what_is_no_schedule(text):
    assert not is_cron(text)
