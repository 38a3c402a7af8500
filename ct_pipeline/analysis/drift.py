"""The drift alarm: what changed between two runs of one audit, and whether chance explains it.

Two things raise it. A shift: the paired difference of a probe's risk between the runs excludes 0 after Holm's correction
over the probes; on runs that do not differ this happens with probability at most 1 - confidence. And a changed verdict
(amplifies, neutral ...): the reason says whether a shift stands behind it.

The gate's outcome changes by chance alone in up to every second run of a model whose bound lies near the limit. That is
said, but raises nothing unless the risk shifted, too: the gate has its own check, which blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ct_pipeline.analysis.paired import Difference, difference
from ct_pipeline.analysis.verdicts import holm

GATE = "gate"
"""The name of the release gate's outcome."""


@dataclass(frozen=True)
class Drift:
    """What changed between two runs.

    Attributes:
        raised: a probe shifted, changed its verdict, or can no longer be compared.
        reasons: one sentence for each of these, and for each gate outcome that changed.
        differences: this run's risk less the last one's by probe, paired by prompt, at `confidence` each.
        shifted: probes whose difference excludes 0 after Holm's correction.
        changed: probes with a changed outcome, of the gate or otherwise.
        confidence: of the intervals and of Holm's correction.
    """

    raised: bool
    reasons: tuple[str, ...]
    differences: Mapping[str, Difference]
    shifted: tuple[str, ...]
    changed: tuple[str, ...]
    confidence: float


def drift(
    previous: pd.DataFrame,
    current: pd.DataFrame,
    previous_verdicts: Mapping[str, Mapping[str, str]],
    current_verdicts: Mapping[str, Mapping[str, str]],
    *,
    confidence: float = 0.95,
) -> Drift:
    """Compares two runs.

    Args:
        previous: rows of the last run, one per completion: probe, prompt_id, verdict (nullable).
        current: rows of this run on the same prompts.
        previous_verdicts: outcomes by probe and name, such as {"sycophancy": {"verdict": "neutral", "gate": "PASS"}}.
        current_verdicts: those of this run. An outcome that only one of them has is not compared.
        confidence: two-sided, in (0, 1).

    Returns:
        The drift. A probe that the last run did not have raises nothing; one that this run lacks, or that shares no
        prompt with a verdict on both sides, does.

    Raises:
        ValueError: confidence outside (0, 1).
        KeyError: a column is absent.
        TypeError: a verdict that is neither a truth value nor missing.
    """
    probes = list(dict.fromkeys([*previous["probe"], *previous_verdicts]))
    differences = {
        probe: difference(
            previous[previous["probe"] == probe],
            current[current["probe"] == probe],
            confidence=confidence,
            prompt="prompt_id",
        )
        for probe in dict.fromkeys(previous["probe"])
    }
    adjusted = dict(zip(differences, holm(change.p_value() for change in differences.values()), strict=True))
    shifted = tuple(probe for probe, p in adjusted.items() if p is not None and p < 1 - confidence)
    reasons, changed, raised = [], [], False
    for probe in probes:
        known = differences.get(probe)
        alarms = _shift_reasons(probe, known, probe in shifted)
        words = _changed_outcomes(previous_verdicts.get(probe, {}), current_verdicts.get(probe, {}))
        if words:
            changed.append(probe)
            reasons += [f"{probe}: {', '.join(words.values())}{_support(known, probe in shifted)}."]
        reasons += alarms
        raised = raised or bool(alarms) or bool(set(words) - {GATE})
    return Drift(raised, tuple(reasons), differences, shifted, tuple(changed), confidence)


def _shift_reasons(probe: str, change: Difference | None, shifted: bool) -> list[str]:
    if change is not None and change.value is None:
        return [f"{probe}: no prompt has a verdict in both runs, nothing can be compared."]
    if not shifted:
        return []
    return [
        f"{probe}: the risk moved by {_interval(change)} between the runs, from {100 * change.before:.1f} % to "
        f"{100 * change.after:.1f} %."
    ]


def _changed_outcomes(previous: Mapping[str, str], current: Mapping[str, str]) -> dict[str, str]:
    both = [(name, previous[name], current[name]) for name in previous if name in current]
    return {name: f"{name} went from {old} to {new}" for name, old, new in both if old != new}


def _support(change: Difference | None, shifted: bool) -> str:
    if change is None or change.value is None or shifted:
        return ""
    return f", though the difference between the runs, {_interval(change)}, is within chance"


def _interval(change: Difference) -> str:
    return f"{100 * change.value:+.1f} pp [{100 * change.low:+.1f} to {100 * change.high:+.1f}]".replace("-", "−")
