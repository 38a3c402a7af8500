"""What a reader is told of judges: who, by which rubric, their errors, what they cost, and what that does to a change.

One form for studies and audits: a document as `Judging` describes it, which is plain JSON.
"""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from ct_pipeline.report.section import Section, Sentences, Table, Text
from ct_pipeline.report.wording import MISSING, percent, points

Judging = Mapping[str, object]
"""`judges`: role, name, who, rubric, and as far as known asked, missing, spent, calibration (`Calibration.as_json`);
`agreement`: Krippendorff's alpha of both judges, None without a second one; `changes`: of, role, seen, corrected."""

HEAD = ("Judge", "Who", "Rubric", "Labelled", "TPR", "FPR", "No verdict", "Tokens", "Cost")
CHANGES = ("Of", "Seen by the judge", "Corrected", "Seen by the second judge")


def judge_sections(judging: Judging, of: str = "") -> Iterator[Section]:
    """The table of judges, and the changes on the answers that they judged; `of` is added to the titles."""
    table = Table(HEAD, [row for judge in judging["judges"] for row in _judge(judge)])
    notes = list(_notes(judging))
    yield Section(f"Judges{of}", [table, *([Sentences(notes)] if notes else [])])
    if changes := list(_changes(judging["changes"])):
        why = (
            "Changes in domain, sampled, in percentage points, on the answers that a judge decides alone. Corrected: divided "
            "by TPR − FPR, which is right where the judge errs alike before and after; the calibration's own uncertainty "
            "is in the interval."
        )
        yield Section(f"Changes as judges see them{of}", [Text(why), Table(CHANGES, changes)])


def study_judge_section(judging: Mapping[str, Judging], confidence: float) -> Section | None:
    """The judges of every kind of misalignment that has any, its title with them; None without judges."""
    if not judging:
        return None
    intro = (
        "Who judged the answers that no rule decides, how often they err on answers labelled by hand (exact "
        f"{100 * confidence:g} % intervals), and what that does to a change."
    )
    parts = [section for title, one in judging.items() for section in judge_sections(one, f": {title}")]
    return Section("Judges", [Text(intro), *parts], "judges", "Judges")


def judged_changes_table(judging: Mapping[str, Judging]) -> pd.DataFrame:
    """One row per change and judge, as rates: as seen, and corrected where labelled answers allow it; missing is null."""
    numbers = ("value", "low", "high")
    return pd.DataFrame(
        [
            {
                "kind": title,
                "of": change["of"],
                "judge": change["role"],
                **{name: change["seen"][name] for name in numbers},
                **{f"corrected_{name}": _known(change["corrected"], name) for name in numbers},
            }
            for title, one in judging.items()
            for change in one["changes"]
        ]
    ).astype({name: float for part in ("", "corrected_") for name in (f"{part}{each}" for each in numbers)})


def judge_limit(judging: Judging | None) -> str:
    """What rows with a rubric cannot say."""
    if not judging:
        return "Rows with a rubric have no verdict: the audit names no judge."
    scaled = "A judge's errors scale every change; errors that differ between before and after bend it"
    known = judging["judges"][0].get("calibration")
    if not known:
        return f"{scaled}, and their size is unknown here."
    return f"{scaled}; their size is known from {known['rows']} labelled answers alone."


def rate_text(rate: Mapping[str, object] | None) -> str:
    """A rate of error with its exact interval and the answers it stands on."""
    if rate is None or rate["value"] is None:
        return MISSING
    return f"{percent(rate['value'])} [{percent(rate['low'])} to {percent(rate['high'])}] of {rate['prompts']}"


def _known(change: Mapping[str, object] | None, name: str) -> object:
    return None if change is None or change["value"] is None else change[name]


def _judge(judge: Mapping[str, object]) -> Iterator[tuple[str, ...]]:
    """A row over all labelled answers, and one for each arm that has any."""
    calibration = judge.get("calibration") or {}
    errors = calibration.get("errors", {})
    spent = judge.get("spent") or {}
    asked, missing = judge.get("asked", 0), judge.get("missing", 0)
    tokens = spent.get("prompt_tokens", 0) + spent.get("completion_tokens", 0) if spent else None
    cost = spent.get("cost")
    title = judge["name"] if judge["role"] == "judge" else f"{judge['name']} (second)"
    yield (
        title,
        judge["who"],
        judge["rubric"],
        str(calibration["rows"]) if calibration else "none",
        *(rate_text(errors.get("all", {}).get(side)) for side in ("true_positive", "false_positive")),
        f"{missing:,} of {asked:,}",
        MISSING if tokens is None else f"{tokens:,}",
        MISSING if cost is None else f"{cost:.4f}",
    )
    for arm in ("before", "after"):
        if arm in errors:
            rates = [rate_text(errors[arm][side]) for side in ("true_positive", "false_positive")]
            count = sum(errors[arm][side]["rows"] for side in ("true_positive", "false_positive"))
            yield (f"{title}, {arm}", "", "", str(count), *rates, "", "", "")


def _notes(judging: Judging) -> Iterator[str]:
    for judge in judging["judges"]:
        for problem, count in (judge.get("problems") or {}).items():
            yield f"{judge['name']}: no verdict on {count:,}: {problem}."
        warning = ((judge.get("calibration") or {}).get("differential") or {}).get("warning")
        if warning:
            yield f"{judge['name']}: {warning}."
        if not judge.get("calibration"):
            yield f"{judge['name']}: no labelled answers, so its errors are unknown."
    alpha = judging.get("agreement")
    if alpha is not None:
        size = "unknown (all verdicts alike, or none of both)"
        if alpha["value"] is not None:
            ends = "" if alpha["low"] is None else f" [{alpha['low']:.3f} to {alpha['high']:.3f}]"
            size = f"{alpha['value']:.3f}{ends}"
        yield f"Agreement of both judges, Krippendorff's α: {size}, on {alpha['units']:,} answers that both judged."


def _changes(changes: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, ...]]:
    for first in changes:
        if first["role"] != "judge":
            continue
        second = [each for each in changes if each["role"] == "against" and each["of"] == first["of"]]
        yield (
            str(first["of"]),
            _seen(first["seen"]),
            _corrected(first["corrected"]),
            _seen(second[0]["seen"]) if second else MISSING,
        )


def _seen(change: Mapping[str, object]) -> str:
    if change["value"] is None:
        return MISSING
    ends = "" if change["standard_error"] is None else f" [{points(change['low'])} to {points(change['high'])}]"
    return f"{points(change['value'])}{ends}"


def _corrected(change: Mapping[str, object] | None) -> str:
    if change is None:
        return MISSING
    if change["value"] is None:
        return f"{MISSING} ({change['problem']})"
    return f"{points(change['value'])} [{points(change['low'])} to {points(change['high'])}]"
