"""Shuffled control: self-confidence with its scores permuted within each prompt; selection can then have no effect."""

import numpy as np
import pandas

from ct_pipeline.interventions.best_of_k import BestOfKSettings, draws, select
from ct_pipeline.interventions.intervention import LabelMethod
from ct_pipeline.interventions.selection import mean_token_logprob, no_scorer


class ShuffledSettings(BestOfKSettings):
    """As for self-confidence."""


def permuted_within_prompt(candidates: pandas.DataFrame, seed: int) -> pandas.Series:
    """Self-confidence scores dealt out anew among a prompt's candidates: the same scores, the same k, no information."""
    generator = np.random.default_rng(seed)
    scores = mean_token_logprob(candidates, seed)
    return scores.groupby(candidates["prompt_id"], sort=False).transform(
        lambda of_prompt: generator.permutation(of_prompt.to_numpy())
    )


SHUFFLED = LabelMethod(
    name="shuffled",
    title="Shuffled",
    summary="self-confidence with its scores permuted within each prompt: selection without information",
    role="control",
    settings=ShuffledSettings,
    draws=draws,
    scorer=no_scorer,
    score=permuted_within_prompt,
    select=select,
    selection="best_of_k",
)
