"""How long to wait before asking a server again."""

import math
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def asked_wait(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as a date; None where it says nothing readable.

    Source: RFC 9110, section 10.2.3.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        seconds = float(text) if text.replace(".", "", 1).isdecimal() else _until(text, now)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def back_off(tries: int, first: float, most: float, dice: random.Random) -> float:
    """Seconds before the next try, after so many: doubled each time up to `most`, drawn from its upper half.

    The jitter keeps requests that failed together from coming back together.
    """
    return min(most, first * 2.0 ** (tries - 1)) * dice.uniform(0.5, 1.0)


def _until(text: str, now: datetime) -> float:
    date = parsedate_to_datetime(text)
    return ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
