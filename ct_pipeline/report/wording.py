"""Numbers and foreign text as a reader sees them; what is missing is a dash."""

import math
import unicodedata
from datetime import datetime, timedelta

from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.analysis.verdicts import Verdict
from ct_pipeline.measurement.condition import SAMPLED, View

MISSING = "—"

SYMBOLS = {
    Verdict.AMPLIFIES: "▲",
    Verdict.SUPPRESSES: "▼",
    Verdict.RISES: "△",
    Verdict.FALLS: "▽",
    Verdict.NEUTRAL: "=",
    Verdict.UNDETERMINED: "?",
    Verdict.UNREADABLE: "∅",
}


def absent(number: float | None) -> bool:
    """Whether there is no number: None or NaN."""
    return number is None or math.isnan(number)


def view_title(view: View) -> str:
    """ "In domain, sampled (T = 1)"."""
    text = view_name(view)
    return text[0].upper() + text[1:]


def view_name(view: View) -> str:
    """ "in domain, sampled (T = 1)": within a sentence."""
    return View(*view).title + (" (T = 1)" if SAMPLED.name in view else "")


def points(value: float | None) -> str:
    """A change in percentage points with its sign: +12.3, −4.0, 0.0."""
    return MISSING if absent(value) else signed(100 * value)


def signed(number: float | None, digits: int = 1) -> str:
    """A number with its sign and a true minus; zero has none."""
    if absent(number):
        return MISSING
    text = f"{abs(number):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if number > 0 else "−") + text


def change_interval(change: Difference | None) -> str:
    """The interval of a change in percentage points: "+4.0 to +20.1"."""
    if change is None or change.value is None or change.standard_error is None:
        return MISSING
    return f"{points(change.low)} to {points(change.high)}"


def term_interval(term: Estimate | None) -> str:
    """The interval of a mean over prompts in percentage points."""
    if term is None or term.value is None or term.standard_error is None:
        return MISSING
    return f"{points(term.low)} to {points(term.high)}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent: "31.0 %"."""
    return MISSING if absent(value) else f"{100 * value:.{digits}f} %"


def rate_value(rate: Rate | None) -> str:
    """A rate in percent."""
    return MISSING if rate is None else percent(rate.value)


def rate_interval(rate: Rate | None) -> str:
    """The interval of a rate in percent: "26.1–36.4"."""
    if rate is None or rate.value is None:
        return MISSING
    return f"{100 * rate.low:.1f}–{100 * rate.high:.1f}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: "0.4 s", "1 min 32 s", "2 h 05 min"."""
    if absent(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: float | None) -> str:
    """A count with thousands marked: "3,500,000"."""
    return MISSING if absent(number) else f"{number:,.0f}"


def decimal(number: float | None, digits: int = 2) -> str:
    """A plain number with a true minus; zero has none."""
    if absent(number):
        return MISSING
    text = f"{number:.{digits}f}"
    return (text.removeprefix("-") if float(text) == 0 else text).replace("-", "−")


def memory(bytes_: object) -> str:
    """Bytes in GiB; anything but a number as it is."""
    return f"{bytes_ / 2**30:.1f} GiB" if isinstance(bytes_, (int, float)) else str(bytes_)


def verdict_word(misbehaves: bool | None, right: bool | None = None) -> str:
    """What one completion is; `right` is None where no right answer is known."""
    if misbehaves is None:
        return "no verdict"
    return (
        "misbehaves" if misbehaves else {True: "right", False: "does not misbehave, but wrong", None: "behaves"}[right]
    )


def visible(text: object) -> str:
    """Foreign text with the characters that hide, reorder or break it written out; line ends and tabs stay."""
    whole = str(text)
    if whole.isprintable():
        return whole
    return "".join(
        f"\\u{{{ord(character):x}}}"
        if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\n\t\u200d"
        else character
        for character in whole
    )


def moment(text: str | None) -> str:
    """A time in ISO 8601 as a person reads it: "2026-01-05 10:06 UTC"; anything else as it is."""
    if not text:
        return MISSING
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = " UTC" if time.utcoffset() == timedelta(0) else f" {time:%z}".rstrip()
    return f"{time:%Y-%m-%d %H:%M}{zone}"


def named(name: str) -> str:
    """A key as a person writes it: "Shift from sampled"."""
    return name.replace("_", " ").capitalize()


def joined(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
