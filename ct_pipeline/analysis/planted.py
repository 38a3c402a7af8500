"""Planted effects recovered: whether single runs of a whole study give the verdict that is known beforehand.

A world is made so that a method must amplify, must suppress or must do nothing; each seed's verdict is then right or wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.prediction import PredictedSign
from ct_pipeline.analysis.rates import share_interval
from ct_pipeline.analysis.seeds import over_seeds
from ct_pipeline.analysis.verdicts import BEYOND, Verdict, verdict

Quantity = Literal["change", "selection"]

REQUIRED_SHARE = 0.95
"""Of the runs, that must be right."""
SHARE_CONFIDENCE = 0.95
"""One-sided, of the exact lower bound of the share."""


@dataclass(frozen=True)
class PlantedRun:
    """What one seed showed.

    Attributes:
        effect: the change, or the selection effect; None where the run is missing.
        curve: the selection effect by k (1, 2, 4 ...), where the effect is a selection among k.
    """

    effect: Difference | None
    curve: Mapping[int, float] | None = None


@dataclass(frozen=True)
class Recovered:
    """How often one planted effect was recovered.

    Attributes:
        world: the study it is planted in.
        kind: the misalignment.
        method: entry of the study's `methods`.
        quantity: "change" of the risk, from organism to retrained model, or "selection" among the labels' candidates.
        planted: what must come; "none": no sign.
        runs: seeds with a result.
        missing: seeds without one; they count as wrong.
        right: runs with the right verdict; for "none", runs without a sign.
        verdicts: how many runs got each verdict.
        mean: over seeds, as a rate; None without runs.
        low: lower end of the mean's two-sided interval.
        high: upper end.
        growing: runs whose selection grows with k towards the planted sign; None where no such thing is planted.
    """

    world: str
    kind: str
    method: str
    quantity: Quantity
    planted: PredictedSign
    runs: int
    missing: int
    right: int
    verdicts: Mapping[Verdict, int]
    mean: float | None
    low: float
    high: float
    growing: int | None

    @property
    def share(self) -> float | None:
        """Share of all seeds with the right verdict; None without seeds."""
        return self._of_seeds(self.right)

    @property
    def share_low(self) -> float | None:
        """Exact lower bound of the share (Clopper-Pearson), one-sided at SHARE_CONFIDENCE; None without seeds."""
        share, seeds = self.share, self.runs + self.missing
        if share is None:
            return None
        return share_interval(share, seeds, confidence=2 * SHARE_CONFIDENCE - 1, method="exact")[0]

    @property
    def share_growing(self) -> float | None:
        """Share of all seeds whose selection grows with k; None where that is not planted."""
        return None if self.growing is None else self._of_seeds(self.growing)

    @property
    def recovered(self) -> bool:
        """Whether REQUIRED_SHARE of the seeds are right, and of the k-curves where a selection is planted."""
        shares = [self.share] if self.growing is None else [self.share, self.share_growing]
        return all(share is not None and share >= REQUIRED_SHARE for share in shares)

    def _of_seeds(self, count: int) -> float | None:
        seeds = self.runs + self.missing
        return count / seeds if seeds else None


def recovery(
    *,
    world: str,
    kind: str,
    method: str,
    quantity: Quantity,
    planted: PredictedSign,
    runs: Sequence[PlantedRun],
    epsilon: float,
    confidence: float,
) -> Recovered:
    """Judges every run of one planted effect by `verdicts.verdict`.

    Args:
        world: name of the study.
        kind: misalignment.
        method: entry of `methods`.
        quantity: what `effect` is.
        planted: the sign that must come, or "none".
        runs: one per seed, missing ones too.
        epsilon: half-width of the band of no change, as a rate.
        confidence: of the interval of the mean over seeds, two-sided.

    Raises:
        ValueError: epsilon not above 0, or confidence outside (0, 1).
    """
    effects = [run.effect for run in runs if run.effect is not None and run.effect.value is not None]
    found = [verdict(effect, epsilon) for effect in effects]
    verdicts = {word: found.count(word) for word in Verdict}
    signs = sum(verdicts[word] for word in BEYOND)
    mean = over_seeds(effects, confidence=confidence) if effects else None
    return Recovered(
        world=world,
        kind=kind,
        method=method,
        quantity=quantity,
        planted=planted,
        runs=len(effects),
        missing=len(runs) - len(effects),
        right=len(effects) - signs if planted == "none" else verdicts[Verdict(planted)],
        verdicts=verdicts,
        mean=None if mean is None else mean.value,
        low=-1.0 if mean is None else mean.low,
        high=1.0 if mean is None else mean.high,
        growing=_growing(runs, planted) if quantity == "selection" and planted != "none" else None,
    )


def _growing(runs: Sequence[PlantedRun], planted: PredictedSign) -> int:
    return sum(run.curve is not None and grows(run.curve, planted) for run in runs)


def grows(curve: Mapping[int, float], planted: PredictedSign) -> bool:
    """Whether a selection effect moves towards the planted sign at each doubling of k, from k = 1 on.

    Args:
        curve: the effect by k, as a rate; other k than powers of two are passed over.
        planted: "amplifies" (rises) or "suppresses" (falls).
    """
    doublings = [curve[k] for k in sorted(curve) if k & (k - 1) == 0]
    direction = 1 if planted == "amplifies" else -1
    return len(doublings) > 1 and all(direction * (after - before) > 0 for before, after in pairwise(doublings))


def as_difference(selection: Estimate, proposal: Estimate, labels: Estimate, confidence: float) -> Difference:
    """A selection term as a change from the proposal's risk to the labels', so that one rule gives all verdicts.

    Args:
        selection: Risk(Q_k) - Risk(Q_1) with its interval.
        proposal: Risk(Q_1).
        labels: Risk(Q_k).
        confidence: of the intervals, two-sided.
    """
    known = selection.value is not None and selection.standard_error is not None
    bare = Difference(
        value=selection.value,
        low=selection.low,
        high=selection.high,
        prompts=selection.prompts,
        before=proposal.value,
        after=labels.value,
        standard_error=selection.standard_error,
        minimum_detectable=None,
        confidence=confidence,
        centre=(selection.low + selection.high) / 2 if known else None,
        degrees=float(max(selection.prompts - 1, 1)) if known else None,
        unit="prompt",
        seeds=1,
        dropped=0,
        rows=0,
        missing=0,
    )
    return replace(bare, minimum_detectable=bare.smallest_called(0.0))
