"""Scores and selections that methods share.

Candidates tables have one row per completion: prompt_id, candidate (0, 1, ... within the prompt), score, and whatever
else; a selection keeps all columns and at most one row per prompt, in the order of the prompts.
"""

import pandas

from ct_pipeline.interventions.scorer import Scorer
from ct_pipeline.settings.study import MethodSettings


def no_scorer(settings: MethodSettings, samples: int) -> Scorer | None:
    """Nothing has to be asked for."""
    return None


def no_score(candidates: pandas.DataFrame, seed: int) -> pandas.Series:
    """Missing for every candidate: the method does not choose."""
    return pandas.Series(float("nan"), index=candidates.index)


def mean_token_logprob(candidates: pandas.DataFrame, seed: int) -> pandas.Series:
    """Log-probability per drawn token at temperature 1, in nats; missing for an empty completion."""
    return (candidates["logprob"] / candidates["tokens"].where(candidates["tokens"] > 0)).astype(float)


def given_score(candidates: pandas.DataFrame, seed: int) -> pandas.Series:
    """What the method's scorer said."""
    return candidates["given_score"].astype(float)


def first(candidates: pandas.DataFrame, settings: MethodSettings) -> pandas.DataFrame:
    """The candidate drawn first for each prompt."""
    return candidates[candidates["candidate"] == 0]


def best_of(candidates: pandas.DataFrame, k: int) -> pandas.DataFrame:
    """The highest score among the first k candidates of each prompt.

    A missing score counts as worst and ties go to the candidate drawn first (science: a score that cannot be parsed is
    missing, not zero). ValueError where a prompt has fewer than k candidates.
    """
    drawn = candidates.groupby("prompt_id", sort=False)["candidate"].size()
    if len(drawn) and drawn.min() < k:
        raise ValueError(f"best of {k} needs {k} candidates per prompt; {drawn.idxmin()} has {drawn.min()}")
    pool = candidates[candidates["candidate"] < k]
    order = pandas.Series(range(len(drawn)), index=drawn.index)
    ranked = pool.assign(prompt_order=pool["prompt_id"].map(order)).sort_values(
        ["prompt_order", "score", "candidate"], ascending=[True, False, True], na_position="last", kind="stable"
    )
    return ranked.drop_duplicates("prompt_id", keep="first").drop(columns="prompt_order")
