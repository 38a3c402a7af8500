"""What a study can find: the smallest change a design detects, and the prompts and seeds that a verdict needs.

The change of prompt i in seed s is Δ + b_s + p_i + e_is: b is what the seed's organism does otherwise (variance τ²), p
what a prompt does in every seed alike, e the rest; p and e together have the variance σ² of paired changes within one
seed, and `shared` is p's part of it. With S seeds and n prompts the mean over seeds then has the variance

    τ²/S + σ²·[shared + (1 − shared)/S]/n,

while the spread between seeds, with S − 1 degrees of freedom, estimates τ²/S + σ²·(1 − shared)/(n·S), and the changes by
prompt what is shared, σ²·shared/n. `seeds.over_seeds` adds the two. Its verdict is planned for as it stands: the chance of a
call is averaged over the law of the spread (a χ² scaled), with the mean normal and independent of it. With one or two
seeds the interval speaks of these seeds alone and leaves τ² out or nearly so: it needs fewer prompts, and says less.

Source of the rules: `verdicts` (ε and two one-sided tests) of this package; the planner is ours.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.seeds import ByPrompt, shared_by_seeds
from ct_pipeline.analysis.t_distribution import check_power, student_quantile, two_source_error

FEWEST_PROMPTS = 20
"""Below this a mean of few verdict changes is too far from normal to be planned with."""

_NODES = (np.arange(2000) + 0.5) / 2000


@dataclass(frozen=True)
class Spread:
    """How much changes vary, as variances of rates (0.05² for a standard deviation of 5 percentage points).

    Attributes:
        seed_variance: τ², of the true change between seeds.
        prompt_variance: σ², of the paired change between prompts of one seed, at the study's samples per prompt.
        shared: part of σ² that all seeds have in common; 0 where every seed draws its own completions of prompts alike.
    """

    seed_variance: float
    prompt_variance: float
    shared: float = 0.0

    def __post_init__(self) -> None:
        if self.seed_variance < 0 or self.prompt_variance < 0:
            raise ValueError(f"a variance is negative: seeds {self.seed_variance}, prompts {self.prompt_variance}")
        if not 0 <= self.shared <= 1:
            raise ValueError(f"shared must lie between 0 and 1, not {self.shared}")


@dataclass(frozen=True)
class Design:
    """Seeds and prompts of a cell, and the rule it is judged by: ε as a rate, confidence two-sided."""

    seeds: int
    prompts: int
    epsilon: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.prompts < FEWEST_PROMPTS:
            raise ValueError(
                f"a design needs 1 seed and {FEWEST_PROMPTS} prompts at least, not {self.seeds} and {self.prompts}"
            )
        if self.epsilon < 0:
            raise ValueError(f"epsilon must not be negative, it is {self.epsilon}")
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0.5 and 1, not {self.confidence}")


def power_to_call(effect: float, spread: Spread, design: Design) -> float:
    """The chance that a true change is called: that its interval lies beyond ε on the side of the change.

    With fewer than three seeds the interval speaks of these seeds alone; the chance is still over all seeds.

    Args:
        effect: the true mean change over seeds; 0 counts as a rise.
    """
    mean, deviation, call, _ = _law(abs(effect), spread, design)
    return float(np.mean(scipy.stats.norm.sf(design.epsilon + call, mean, deviation)))


def power_of_neutral(effect: float, spread: Spread, design: Design) -> float:
    """The chance that a true change is called neutral: that two one-sided tests put it inside (−ε, ε).

    Beyond ±ε this is the error rate of the word "neutral".
    """
    mean, deviation, _, inside = _law(abs(effect), spread, design)
    room = np.maximum(0.0, design.epsilon - inside)
    return float(np.mean(scipy.stats.norm.cdf(room, mean, deviation) - scipy.stats.norm.cdf(-room, mean, deviation)))


def prompts_needed(
    effect: float,
    spread: Spread,
    *,
    seeds: int,
    epsilon: float,
    confidence: float = 0.95,
    power: float = 0.8,
    neutral: bool = False,
    most: int = 100_000,
) -> int | None:
    """The fewest prompts at which a true change is called (or, with `neutral`, called neutral) with a chance of `power`.

    Returns:
        A number from `FEWEST_PROMPTS` to `most`; None where `most` are too few, as when seeds differ too much: then
        only more seeds help.

    Raises:
        ValueError: an argument out of range.
    """
    check_power(power)
    chance = power_of_neutral if neutral else power_to_call

    def reached(prompts: int) -> bool:
        return chance(effect, spread, Design(seeds, prompts, epsilon, confidence)) >= power

    if not reached(most):
        return None
    low, high = FEWEST_PROMPTS - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def smallest_called(spread: Spread, design: Design, *, power: float = 0.8) -> float | None:
    """The smallest true change that the design calls with a chance of `power`; None where not even a change of 1 is.

    With a design whose ε is 0 it is the smallest change told from none.
    """
    check_power(power)
    if power_to_call(1.0, spread, design) < power:
        return None
    found = scipy.optimize.brentq(
        lambda effect: power_to_call(effect, spread, design) - power, design.epsilon, 1.0, xtol=1e-6
    )
    return float(found)


def power_table(spread: Spread, designs: Iterable[Design], *, power: float = 0.8) -> pd.DataFrame:
    """What each design can find.

    Returns:
        Columns seeds, prompts, epsilon, confidence, standard_error (of the mean over seeds), smallest_difference (told
        from 0), smallest_called (told from [−ε, ε]), power_of_neutral (at no change at all); rates, NaN where not even a
        change of 1 is found.
    """
    rows = []
    for one in designs:
        from_zero = Design(one.seeds, one.prompts, 0.0, one.confidence)
        rows.append(
            {
                "seeds": one.seeds,
                "prompts": one.prompts,
                "epsilon": one.epsilon,
                "confidence": one.confidence,
                "standard_error": _deviation(spread, one.seeds, one.prompts),
                "smallest_difference": smallest_called(spread, from_zero, power=power),
                "smallest_called": smallest_called(spread, one, power=power),
                "power_of_neutral": power_of_neutral(0.0, spread, one),
            }
        )
    whole = dict.fromkeys(["seeds", "prompts"], int)
    names = [*whole, "epsilon", "confidence", "standard_error", "smallest_difference", "smallest_called"]
    table = pd.DataFrame(rows, columns=[*names, "power_of_neutral"])
    return table.astype(dict.fromkeys(table.columns, float) | whole)


def planning_table(
    spread: Spread,
    effects: Sequence[float],
    seeds: Sequence[int],
    *,
    epsilon: float,
    confidence: float = 0.95,
    power: float = 0.8,
    most: int = 100_000,
) -> pd.DataFrame:
    """Prompts needed for each true change and number of seeds, and for "neutral" where nothing changes.

    Args:
        spread: how much changes vary.
        effects: true changes beyond ε that shall be called, as rates.
        seeds: numbers of seeds to try.
        epsilon: half-width of the band of no change.
        confidence: two-sided.
        power: the chance wanted.
        most: prompts beyond which nobody goes.

    Returns:
        Columns goal ("call" or "neutral"), effect, seeds, prompts (Int64, missing where `most` are too few), power (what
        those prompts, or `most`, attain).
    """
    goals = [("call", effect) for effect in effects] + [("neutral", 0.0)]
    rows = []
    for goal, effect in goals:
        for count in seeds:
            neutral = goal == "neutral"
            options = {"seeds": count, "epsilon": epsilon, "confidence": confidence, "power": power}
            prompts = prompts_needed(effect, spread, neutral=neutral, most=most, **options)
            design = Design(count, most if prompts is None else prompts, epsilon, confidence)
            attained = (power_of_neutral if neutral else power_to_call)(effect, spread, design)
            rows.append((goal, effect, count, prompts, attained))
    table = pd.DataFrame(rows, columns=["goal", "effect", "seeds", "prompts", "power"])
    return table.astype({"effect": float, "seeds": int, "prompts": "Int64", "power": float})


def spread_of(
    cells: Iterable[Sequence[Difference]], *, shared: float = 0.0, seed_variance: float | None = None
) -> Spread:
    """The variances seen in a study's cells, pooled over cells.

    Args:
        cells: the changes of each cell's seeds, one difference per seed as `paired.difference` gives it; those without a
            standard error are left out. Cells of two seeds or more bear on τ².
        shared: as for `Spread`; `shared_of` tells it from changes by prompt.
        seed_variance: τ² where it is supposed; None where it is to be seen.

    Returns:
        σ² is the mean over changes; τ² the mean spread between seeds of a cell less what prompts add to it, at least 0.

    Raises:
        ValueError: a difference over several seeds, no known change, or no cell with two where τ² is to be seen.
    """
    within: list[float] = []
    between: list[float] = []
    for cell in cells:
        known = [one for one in cell if one.value is not None and one.standard_error is not None]
        if any(one.unit != "prompt" or one.seeds != 1 for one in known):
            raise ValueError("a change over several seeds has no variance between prompts; pass one change per seed")
        variances = [_prompt_variance(one) for one in known]
        within.extend(variances)
        if len(known) > 1:
            noise = np.mean([one / change.prompts for one, change in zip(variances, known, strict=True)])
            between.append(float(np.var([one.value for one in known], ddof=1) - (1 - shared) * noise))
    if not within:
        raise ValueError("no change is known: the variance between prompts cannot be seen")
    if seed_variance is None and not between:
        raise ValueError("no cell has two seeds with a known change: the variance between seeds cannot be seen")
    seen = max(0.0, float(np.mean(between))) if seed_variance is None else seed_variance
    return Spread(seen, float(np.mean(within)), shared)


def shared_of(cells: Iterable[Sequence[ByPrompt]]) -> float | None:
    """The part of what a prompt adds to a change that is alike in every seed, pooled over a study's cells.

    Args:
        cells: the changes by prompt of each cell's seeds.

    Returns:
        A share in [0, 1]; None where no cell has two seeds with common prompts, or nothing changes.
    """
    found = [parts for cell in cells if (parts := shared_by_seeds(cell)) is not None]
    common, rest = (sum(each) for each in zip(*found, strict=True)) if found else (0.0, 0.0)
    return min(1.0, max(0.0, common / (common + rest))) if common + rest > 0 else None


def guessed_prompt_variance(before: float, after: float) -> float:
    """σ² of one completion per prompt before and after that are independent: the most that two rates allow.

    Prompts that differ in difficulty, shared random numbers and several samples per prompt only lower it.

    Raises:
        ValueError: a rate outside [0, 1].
    """
    if not (0 <= before <= 1 and 0 <= after <= 1):
        raise ValueError(f"rates must lie between 0 and 1, not {before} and {after}")
    return before * (1 - before) + after * (1 - after)


def _law(effect: float, spread: Spread, design: Design) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Mean and standard deviation of the interval's centre, and its half-widths for a call and for "neutral".

    Half-widths are given at equally likely values of the spread between seeds; one value where a seed is alone.
    """
    seeds, prompts = design.seeds, design.prompts
    deviation = _deviation(spread, seeds, prompts)
    seen = (spread.seed_variance + spread.prompt_variance * (1 - spread.shared) / prompts) / seeds
    between = seen * scipy.stats.chi2.ppf(_NODES, seeds - 1) / (seeds - 1) if seeds > 1 else np.zeros(1)
    shrink = prompts / (prompts + 2)
    if seeds < 3:
        floor = _prompt_error(effect, spread.prompt_variance, prompts)
        errors, degrees = np.sqrt(floor**2 + between), prompts - 1.0
    else:
        common = spread.shared * spread.prompt_variance / prompts + 2 / (prompts + 2) ** 2
        errors, degrees = two_source_error(between, seeds - 1.0, common, prompts - 1.0, design.confidence)
    two_sided = design.confidence, 2 * design.confidence - 1
    call, inside = (student_quantile(each, degrees) * errors for each in two_sided)
    return effect * shrink, deviation * shrink, call, inside


def _deviation(spread: Spread, seeds: int, prompts: int) -> float:
    """The standard deviation of the mean over seeds."""
    of_prompts = spread.prompt_variance * (spread.shared + (1 - spread.shared) / seeds) / prompts
    return math.sqrt(spread.seed_variance / seeds + of_prompts)


def _prompt_error(effect: float, variance: float, prompts: int) -> float:
    """The standard error that `paired.difference` reports of one seed: one rise and one fall of 1 are added."""
    size = prompts + 2
    squares = (prompts * (variance + effect**2) + 2) / size
    return math.sqrt((squares - (prompts * effect / size) ** 2) / size)


def _prompt_variance(change: Difference) -> float:
    """σ² of one seed's change: what `_prompt_error` makes of it, undone."""
    size = change.prompts + 2
    squares = size * (size * change.standard_error**2 + change.centre**2) - 2
    return max(0.0, squares / change.prompts - change.value**2)
