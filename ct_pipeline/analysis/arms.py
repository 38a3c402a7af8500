"""Δ taken apart by arms: what retraining alone moves, what the labels' law moves, what selecting them moves.

Four models of one organism and one seed are measured on the same prompts: θ_0 (the organism), θ_null (retrained on its
own samples at T = 1), θ_Q1 (on one random candidate) and θ_Qk (on what selection keeps). Then, exactly,

    Δ = Risk(θ_Qk) − Risk(θ_0)
      = [Risk(θ_null) − Risk(θ_0)] + [Risk(θ_Q1) − Risk(θ_null)] + [Risk(θ_Qk) − Risk(θ_Q1)]
        drift                        shift                         selection

The first term holds noise and optimizer drift alone: at θ_0 the expected gradient on own samples, E_P[∇ log P], is 0.
The last two are the retrained counterparts of the label decomposition of arXiv 2606.03810 (distribution shift at k = 1,
and selection); the split by arms with a null arm is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ct_pipeline.analysis.clusters import nullable, prompt_means
from ct_pipeline.analysis.paired import Difference, paired_means
from ct_pipeline.analysis.seeds import over_seeds


@dataclass(frozen=True)
class Arms:
    """Δ and its three terms on the same prompts, as rates: `total` = `drift` + `shift` + `selection`.

    The values add up exactly, the intervals do not: the terms share arms, so that their errors are correlated.
    """

    total: Difference
    drift: Difference
    shift: Difference
    selection: Difference

    @property
    def terms(self) -> dict[str, Difference]:
        """The three terms by name, in the order in which they are added."""
        return {"drift": self.drift, "shift": self.shift, "selection": self.selection}


@dataclass(frozen=True)
class Arm:
    """One model's answers: `means` is the mean verdict of each prompt, NaN without any; `missing` of its `rows` have none."""

    means: pd.Series
    rows: int
    missing: int


def arm(
    name: str, table: pd.DataFrame, *, prompt: str = "prompt_id", sample: str = "sample", verdict: str = "verdict"
) -> Arm:
    """The arm of a table with one row per completion: prompt identifier, number of the sample, nullable verdict.

    Raises:
        ValueError: the table holds a prompt's sample twice (two decodings or two models mixed).
        KeyError: a column is absent.
    """
    _refuse_repeats(name, table, prompt, sample)
    return Arm(prompt_means(table[prompt], table[verdict]), len(table), int(nullable(table[verdict]).isna().sum()))


def arms(organism: Arm, null: Arm, one: Arm, best: Arm, *, confidence: float = 0.95) -> Arms:
    """Δ of one organism and its three terms, each paired and clustered by prompt.

    Only prompts with a verdict in all four arms count, in every term: otherwise the terms would not add up.

    Args:
        organism: θ_0.
        null: θ_null on the same prompts.
        one: θ_Q1 on the same prompts.
        best: θ_Qk on the same prompts.
        confidence: two-sided, in (0, 1).

    Returns:
        Four differences with equal `prompts`. `dropped` counts the prompts of any arm that are not complete in all four;
        `rows` and `missing` are those of the two whole tables compared.

    Raises:
        ValueError: confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    named = {"organism": organism, "null": null, "one": one, "best": best}
    joined = pd.concat({name: each.means for name, each in named.items()}, axis=1, sort=False)
    common = joined.dropna()

    def term(before: str, after: str) -> Difference:
        sides = named[before], named[after]
        rows, missing = sum(side.rows for side in sides), sum(side.missing for side in sides)
        found = paired_means(common[before], common[after], rows, missing, confidence)
        return replace(found, dropped=len(joined) - len(common))

    return Arms(
        total=term("organism", "best"),
        drift=term("organism", "null"),
        shift=term("null", "one"),
        selection=term("one", "best"),
    )


def arms_over_seeds(by_seed: Sequence[Arms], *, confidence: float = 0.95) -> Arms:
    """The mean of Δ and of its terms over organisms that differ in their seed alone; the values still add up.

    Args:
        by_seed: one per seed; those without a common prompt are left out of every term alike.
        confidence: two-sided, in (0, 1).

    Raises:
        ValueError: no seed at all, or confidence outside (0, 1).
    """
    parts = {
        name: over_seeds([getattr(one, name) for one in by_seed], confidence=confidence)
        for name in ("total", "drift", "shift", "selection")
    }
    return Arms(**parts)


def arms_table(cells: Mapping[str, Arms]) -> pd.DataFrame:
    """Rows of cell × term for a report.

    Returns:
        Columns cell, term (drift, shift, selection, total), value, low, high, standard_error, prompts, seeds; a missing
        number is NaN.
    """
    rows = [
        {
            "cell": cell,
            "term": term,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "standard_error": found.standard_error,
            "prompts": found.prompts,
            "seeds": found.seeds,
        }
        for cell, split in cells.items()
        for term, found in {**split.terms, "total": split.total}.items()
    ]
    columns = ["cell", "term", "value", "low", "high", "standard_error", "prompts", "seeds"]
    numbers = dict.fromkeys(["value", "low", "high", "standard_error"], float)
    return pd.DataFrame(rows, columns=columns).astype(numbers)


def _refuse_repeats(name: str, table: pd.DataFrame, prompt: str, sample: str) -> None:
    repeated = table.duplicated([prompt, sample])
    if repeated.any():
        first = table.loc[repeated, [prompt, sample]].iloc[0]
        raise ValueError(
            f"the table of arm {name!r} holds sample {first[sample]} of prompt {first[prompt]!r} twice; "
            "pass the rows of one model, one domain and one decoding"
        )
