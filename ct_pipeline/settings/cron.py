"""Schedules of five fields, minute hour day month weekday, in UTC: which ones there are, and when one was last due."""

import re
from datetime import datetime, timedelta

from croniter import CroniterBadDateError, croniter

YEARS = 8
"""No schedule that comes at all waits longer: 29 February is left out in 1900 and 2100."""
_PART = r"(?:\*/[0-9]{1,2}|[0-9]{1,2}(?:-[0-9]{1,2})?(?:/[0-9]{1,2})?)"
_FIELD = re.compile(rf"\*|{_PART}(?:,{_PART})*")


def is_cron(text: str) -> bool:
    """Whether a text is five fields of numbers, ranges, steps and lists of them, all within their limits.

    Not 4-4 and not 4,*: Dagster takes either for every day. Not 5-4, names and seconds, which croniter takes, too.
    """
    fields = text.split()
    return (
        len(fields) == 5
        and all(map(_FIELD.fullmatch, fields))
        and all(int(first) < int(last) for first, last in re.findall("([0-9]+)-([0-9]+)", text))
        and croniter.is_valid(text)
    )


def last_due(cron: str, now: datetime) -> datetime | None:
    """The last moment, not after `now`, that a schedule names; None where it names none, such as 31 February.

    Days fit where the day of the month or the weekday does, if both are given, as cron and Dagster have it.
    """
    try:
        return croniter(cron, now + timedelta(seconds=1), max_years_between_matches=YEARS).get_prev(datetime)
    except CroniterBadDateError:
        return None
