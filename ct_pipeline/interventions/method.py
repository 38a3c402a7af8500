"""What a consistency method is: a proposal, a score, a selection, and what its Phase 3 makes consistent.

Kept apart on purpose: the proposal decides the shift in distribution, the score and the selection decide what is kept
of it, and one set of candidates then serves every method (arXiv 2606.03810).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas

from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.interventions.scorer import Scorer
from ct_pipeline.settings.study import MethodSettings

Objective = Literal["labels", "answers", "residual", "mlp", "attention"]
"""What Phase 3 trains: imitation of labels, or, on clean and wrapped prompts, the same answers or the same inner states."""

Selection = Literal["none", "best_of_k", "rerank", "filter"]
"""What `select` does, for the analysis: it keeps what was drawn, the best of settings.k exchangeable candidates, the best of a
set of unlike ones, or candidate 0 of some prompts."""


@dataclass(frozen=True)
class Method:
    """One consistency method.

    Candidates come as a table with one row per completion: prompt_id, draw, sample, candidate (0, 1, ... within the
    prompt, in the order of the draws), completion, tokens, logprob, proposal_logprob, verdict, and `given_score` where
    the method has a scorer.

    Attributes:
        name: the paper's name in lower case with underscores.
        title: how a report names it.
        summary: one sentence.
        role: "method", "control" or "regularizer".
        settings: the class its block in a study file is read into.
        draws: (settings, samples) -> the proposal, one or more ways of drawing; `samples` is the study's number of
            candidates per prompt, at least.
        scorer: (settings, samples) -> the score that has to be asked for, or None.
        score: (candidates, seed) -> one float per row, NaN where missing; higher is better.
        select: (scored candidates, settings) -> the rows kept, at most one per prompt.
        objective: what Phase 3 trains.
        selection: what `select` does.
    """

    name: str
    title: str
    summary: str
    role: Literal["method", "control", "regularizer"]
    settings: type[MethodSettings]
    draws: Callable[[MethodSettings, int], tuple[Draw, ...]]
    scorer: Callable[[MethodSettings, int], Scorer | None]
    score: Callable[[pandas.DataFrame, int], pandas.Series]
    select: Callable[[pandas.DataFrame, MethodSettings], pandas.DataFrame]
    objective: Objective = "labels"
    selection: Selection = "none"
