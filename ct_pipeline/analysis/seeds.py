"""Δ over organisms that differ in their seed alone; from three seeds on the seed is the unit, crossed with the prompts.

The change of prompt p under seed s is μ + a_s + b_p + e_sp: what a seed does otherwise, what a prompt does under every seed
alike, and the rest. The mean over S seeds and P prompts then has the variance σ_a²/S + σ_b²/P + σ_e²/(S·P). The spread of
the seeds' means estimates the first and the last part together, with S − 1 degrees of freedom; what prompts have in common
is unseen in it, and is estimated from the changes by prompt (analysis of variance, two crossed random factors; Searle,
Casella and McCulloch 1992). The quantile weighs both sources (Cochran 1964).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ct_pipeline.analysis.paired import Difference, with_interval
from ct_pipeline.analysis.t_distribution import two_source_error

ByPrompt = Mapping[str, float]
"""Prompt -> its change, of the prompts that have a verdict on both sides."""


def over_seeds(
    differences: Sequence[Difference], *, confidence: float = 0.95, by_prompt: Sequence[ByPrompt] = ()
) -> Difference:
    """The mean change over organisms that differ in their seed alone.

    With three seeds or more the seed is the unit. The mean's error has two parts: what the seeds' changes spread, and
    what they have in common, because they share their prompts. The second is unseen in the spread; it is estimated from
    the changes by prompt. Without these it is at most one seed's error over prompts, and counted as that, which is wide.
    Seeds that agree by chance, or all stand at 0, keep a width: a prompt that rose and one that fell are added.

    With one or two seeds the spread between seeds cannot be estimated: the prompts are the unit, what spread two seeds
    show is added, and the interval speaks of these seeds, not of others.

    Args:
        differences: one per seed, on the same prompts; those without a value are left out.
        confidence: two-sided, in (0, 1).
        by_prompt: the changes by prompt of each difference, in their order; () where they are not known.

    Raises:
        ValueError: no difference at all, confidence outside (0, 1), or changes by prompt of other seeds.
    """
    if not differences:
        raise ValueError("no seeds to average")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    if by_prompt and len(by_prompt) != len(differences):
        raise ValueError(f"changes by prompt of {len(by_prompt)} seeds beside {len(differences)} differences")
    known = [one for one in differences if one.value is not None]
    values = np.array([one.value for one in known], dtype=float)
    table = _table([each for each, one in zip(by_prompt, differences, strict=bool(by_prompt)) if one.value is not None])
    if len(known) > 2 and table is not None:
        centre, error, degrees = (float(each) for each in crossed_level(values, table, confidence))
    else:
        centre, error, degrees = _known_seed_level(known, values, confidence)
    return with_interval(
        type(differences[0]),
        value=float(values.mean()) if known else None,
        before=float(np.mean([one.before for one in known])) if known else None,
        after=float(np.mean([one.after for one in known])) if known else None,
        prompts=min((one.prompts for one in known), default=0),
        centre=centre,
        standard_error=error,
        degrees=degrees,
        confidence=confidence,
        unit="prompt" if len(known) < 3 else "seed",
        seeds=len(known),
        dropped=sum(one.dropped for one in differences),
        rows=sum(one.rows for one in differences),
        missing=sum(one.missing for one in differences),
    )


def crossed_level(
    values: np.ndarray, changes: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, standard error and degrees of freedom of the mean over three seeds or more, from changes by prompt.

    Args:
        values: the seeds' changes, seeds along the last axis.
        changes: their changes by prompt, seeds × prompts along the last two axes, at least 2 × 2.
        confidence: two-sided, in (0, 1).

    Returns:
        Three arrays without these axes.
    """
    added = np.broadcast_to(np.array([1.0, -1.0]), (*changes.shape[:-1], 2))
    whole = np.concatenate([changes, added], axis=-1)
    seeds, prompts = whole.shape[-2:]
    of_seeds = whole.mean(axis=-1)
    squares_of_prompts, squares_of_rest = _mean_squares(whole)
    fewest = 2.0 * seeds / (prompts - 1)
    common = np.maximum(squares_of_prompts - squares_of_rest, fewest) / (seeds * prompts)
    spread = of_seeds.var(axis=-1, ddof=1) / seeds
    error, degrees = two_source_error(spread, seeds - 1.0, common, prompts - 1.0, confidence)
    return values.mean(axis=-1) * changes.shape[-1] / prompts, error, degrees


def shared_by_seeds(by_prompt: Sequence[ByPrompt]) -> tuple[float, float] | None:
    """Variances of a prompt's change: what every seed has in common (it may be below 0 by chance), and the rest.

    Args:
        by_prompt: the changes by prompt of two seeds or more.

    Returns:
        None where the seeds share fewer than two prompts, or are fewer than two.
    """
    table = _table(by_prompt) if len(by_prompt) > 1 else None
    if table is None:
        return None
    of_prompts, of_rest = (float(each) for each in _mean_squares(table))
    return (of_prompts - of_rest) / len(by_prompt), of_rest


def _mean_squares(changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares of prompts and of the rest, seeds × prompts along the last two axes."""
    seeds, prompts = changes.shape[-2:]
    mean = changes.mean(axis=(-2, -1))
    of_seeds, of_prompts = changes.mean(axis=-1), changes.mean(axis=-2)
    squares = seeds * ((of_prompts - mean[..., None]) ** 2).sum(axis=-1) / (prompts - 1)
    rest = changes - of_seeds[..., :, None] - of_prompts[..., None, :] + mean[..., None, None]
    return squares, (rest**2).sum(axis=(-2, -1)) / ((seeds - 1) * (prompts - 1))


def seed_level(
    values: np.ndarray, centres: np.ndarray, errors: np.ndarray, prompts: float, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, standard error and degrees of freedom of the mean over seeds where changes by prompt are not known.

    Args:
        values: changes, seeds along the last axis.
        centres: middles of their intervals, of the same shape.
        errors: their standard errors over prompts, likewise; 0 where unknown.
        prompts: degrees of freedom of these.
        confidence: two-sided, in (0, 1).

    Returns:
        Three arrays without the last axis; with three seeds or more, NaN degrees where both errors are 0.
    """
    seeds = values.shape[-1]
    of_prompts = errors.mean(axis=-1)
    of_seeds = values.std(axis=-1, ddof=1) / math.sqrt(seeds) if seeds > 1 else np.zeros(values.shape[:-1])
    centre = centres.mean(axis=-1)
    if seeds < 3:
        return centre, np.hypot(of_prompts, of_seeds), np.full(values.shape[:-1], float(prompts))
    with np.errstate(invalid="ignore"):
        error, degrees = two_source_error(of_seeds**2, seeds - 1.0, of_prompts**2, prompts, confidence)
    return centre, error, degrees


def _table(by_prompt: Sequence[ByPrompt]) -> np.ndarray | None:
    """Changes of the prompts that every seed has, seeds × prompts; None where they share fewer than two."""
    if not by_prompt:
        return None
    shared = [prompt for prompt in by_prompt[0] if all(prompt in each for each in by_prompt[1:])]
    return np.array([[each[prompt] for prompt in shared] for each in by_prompt]) if len(shared) > 1 else None


def _known_seed_level(
    known: Sequence[Difference], values: np.ndarray, confidence: float
) -> tuple[float | None, float | None, float | None]:
    """`seed_level` of differences; without a standard error of each seed, the spread of three seeds or more alone."""
    whole = bool(known) and all(one.standard_error is not None for one in known)
    if not whole and len(known) < 3:
        return None, None, None
    errors = np.array([one.standard_error for one in known]) if whole else np.zeros(len(known))
    centres = np.array([one.centre for one in known]) if whole else values
    prompts = min(one.degrees for one in known) if whole else 1.0
    centre, error, degrees = (float(each) for each in seed_level(values, centres, errors, prompts, confidence))
    return (centre, error, degrees) if error > 0 else (None, None, None)
