"""Selections that methods share: the first candidate, and the best of the first k.

Candidates tables have one row per completion: prompt_id, sample (0, 1, ...), score, and whatever else; the result keeps
all columns and at most one row per prompt, in the order of the prompts.
"""

import pandas


def no_score(candidates: pandas.DataFrame) -> pandas.Series:
    """Missing for every candidate: the method does not choose."""
    return pandas.Series(float("nan"), index=candidates.index)


def first(candidates: pandas.DataFrame) -> pandas.DataFrame:
    """The candidate drawn first for each prompt."""
    return candidates[candidates["sample"] == 0]


def best_of(candidates: pandas.DataFrame, k: int) -> pandas.DataFrame:
    """The highest score among the first k candidates of each prompt.

    A missing score counts as worst and ties go to the candidate drawn first (science: a score that cannot be parsed is
    missing, not zero). ValueError where a prompt has fewer than k candidates.
    """
    drawn = candidates.groupby("prompt_id", sort=False)["sample"].size()
    if len(drawn) and drawn.min() < k:
        raise ValueError(f"best of {k} needs {k} candidates per prompt; {drawn.idxmin()} has {drawn.min()}")
    pool = candidates[candidates["sample"] < k]
    order = pandas.Series(range(len(drawn)), index=drawn.index)
    ranked = pool.assign(prompt_order=pool["prompt_id"].map(order)).sort_values(
        ["prompt_order", "score", "sample"], ascending=[True, False, True], na_position="last", kind="stable"
    )
    return ranked.drop_duplicates("prompt_id", keep="first").drop(columns="prompt_order")
