"""Schedules of five fields, minute hour day month weekday, in UTC: which ones there are, and when one was last due."""

import re
from datetime import datetime, timedelta

RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
LONGEST = timedelta(days=8 * 366)
"""No schedule that comes at all waits longer: 29 February is left out in 1900 and 2100."""
_PART = re.compile(r"(?:\*|([0-9]{1,2})(?:-([0-9]{1,2}))?)(?:/([0-9]{1,2}))?")


def is_cron(text: str) -> bool:
    """Whether a text is five fields of numbers, ranges, steps and lists of them, all within their limits.

    Not 4-4 and not 4,*: Dagster takes either for every day.
    """
    fields = text.split()
    return len(fields) == len(RANGES) and all(
        (field == "*" or "*" not in field.split(",")) and all(_is_part(part, *limits) for part in field.split(","))
        for field, limits in zip(fields, RANGES, strict=True)
    )


def last_due(cron: str, now: datetime) -> datetime | None:
    """The last moment, not after `now`, that a schedule names; None where it names none, such as 31 February.

    Days fit where the day of the month or the weekday does, if both are given, as cron and Dagster have it.
    """
    minutes, hours, days, months, weekdays = (
        _values(field, *limits) for field, limits in zip(cron.split(), RANGES, strict=True)
    )
    weekdays = {weekday % 7 for weekday in weekdays}
    both = "*" not in (cron.split()[2], cron.split()[4])
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = day - LONGEST
    while day > first:
        fits = (day.day in days, day.isoweekday() % 7 in weekdays)
        if day.month in months and (any(fits) if both else all(fits)):
            due = (
                day.replace(hour=hour, minute=minute)
                for hour in sorted(hours)[::-1]
                for minute in sorted(minutes)[::-1]
            )
            if found := next((moment for moment in due if moment <= now), None):
                return found
        day -= timedelta(days=1)
    return None


def _is_part(part: str, least: int, most: int) -> bool:
    found = _PART.fullmatch(part)
    if found is None:
        return False
    first, last, step = (int(number) if number else None for number in found.groups())
    within = all(least <= number <= most for number in (first, last) if number is not None)
    return within and (first is None or last is None or first < last) and step != 0


def _values(field: str, least: int, most: int) -> set[int]:
    values: set[int] = set()
    for part in field.split(","):
        first, last, step = (int(number) if number else None for number in _PART.fullmatch(part).groups())
        if first is None:
            first, last = least, most
        elif last is None:
            last = first if step is None else most
        values.update(range(first, last + 1, step or 1))
    return values
