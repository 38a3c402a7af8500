"""Student's law: an error that has two sources, and the smallest true change that an interval finds."""

import functools

import numpy as np
import scipy


def student_quantile(confidence: float, degrees: np.ndarray | float | None) -> np.ndarray | float:
    """The two-sided quantile; `degrees` None: the normal one. What scipy.stats gives, in a fiftieth of the time."""
    tail = (1 + confidence) / 2
    return scipy.special.ndtri(tail) if degrees is None else scipy.special.stdtrit(degrees, tail)


def two_source_error(
    between: np.ndarray | float,
    between_degrees: float,
    within: np.ndarray | float,
    within_degrees: float,
    confidence: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The error of a mean whose variance is the sum of two estimated ones, and its degrees of freedom.

    The quantile is the mean of the two Student's quantiles, weighted by the variances (Cochran 1964, for the
    Behrens-Fisher problem); the degrees are those at which Student's law has it at `confidence`. Welch's and
    Satterthwaite's degrees are too many here: two degrees of freedom may show a variance near 0 by chance, and then
    count for hundreds.

    Args:
        between: first variance of the mean (seeds), at least 0.
        between_degrees: its degrees of freedom.
        within: second one (prompts), at least 0; not both are 0.
        within_degrees: its degrees of freedom.
        confidence: two-sided, in (0, 1).

    Returns:
        Standard error and degrees of freedom, of the shape of the variances.
    """
    total = np.add(between, within)
    quantiles = [student_quantile(confidence, degrees) for degrees in (between_degrees, within_degrees)]
    quantile = (np.multiply(between, quantiles[0]) + np.multiply(within, quantiles[1])) / total
    return np.sqrt(total), scipy.special.stdtridf((1 + confidence) / 2, quantile)


def minimum_detectable_effect(
    standard_error: float,
    degrees: float | None = None,
    *,
    confidence: float = 0.95,
    power: float = 0.8,
    epsilon: float = 0.0,
) -> float:
    """The true change whose interval lies beyond ε, on the right side, with a chance of `power`.

    ε + c·standard_error with P(T > t) = power for T of Student's noncentral law with shift c and t the two-sided quantile.

    Args:
        standard_error: of the cell's interval, estimated with `degrees` degrees of freedom.
        degrees: seeds less 1, or prompts less 1; None for a standard error that is known.
        confidence: two-sided, in (0, 1).
        power: in (0.5, 1).
        epsilon: half-width of the band of no change; 0 for "differs from 0".

    Raises:
        ValueError: a standard error below 0, confidence or power out of range.
    """
    check_power(power)
    if standard_error < 0 or not 0 < confidence < 1:
        raise ValueError(f"no detectable effect for standard error {standard_error} at confidence {confidence}")
    return epsilon + _detectable_shift(degrees, confidence, power) * standard_error


def check_power(power: float) -> None:
    """Raises ValueError for a power outside (0.5, 1)."""
    if not 0.5 < power < 1:
        raise ValueError(f"power must lie between 0.5 and 1, not {power}")


@functools.lru_cache(maxsize=4096)
def _detectable_shift(degrees: float | None, confidence: float, power: float) -> float:
    """c, in standard errors; kept, because a study has thousands of changes and few degrees of freedom."""
    critical = float(student_quantile(confidence, degrees))
    if degrees is None:
        return critical + float(scipy.special.ndtri(power))
    return float(
        scipy.optimize.brentq(
            lambda shift: scipy.special.nctdtr(degrees, shift, critical) - (1 - power), 0, 10 * critical + 10
        )
    )
