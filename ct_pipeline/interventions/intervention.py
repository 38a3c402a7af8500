"""What an intervention is: what makes another model of an organism, by labels, by a consistency loss, or without training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import pandas

from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.interventions.scorer import Scorer
from ct_pipeline.interventions.selection import first, no_score
from ct_pipeline.settings.study import MethodSettings, ModelChangeSettings, PairSettings

if TYPE_CHECKING:
    from ct_pipeline.analysis.prediction import Prediction
    from ct_pipeline.models.adapters import Deltas

Objective = Literal["answers", "residual", "mlp", "attention"]
"""What a consistency loss makes equal on both sides of the pairs: the answers, or inner states."""

Selection = Literal["none", "best_of_k", "rerank", "filter"]
"""What `select` does, for the analysis: it keeps what was drawn, the best of settings.k exchangeable candidates, the best of a
set of unlike ones, or candidate 0 of some prompts."""


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """What every family has.

    Attributes:
        name: of the paper, in lower case with underscores; study files name it under `methods`.
        title: how a report names it.
        summary: one sentence.
        role: "method", "control", "regularizer" (of consistency losses) or "change" (of models made without training).
        settings: the class its block in a study file is read into.
    """

    name: str
    title: str
    summary: str
    role: Literal["method", "control", "regularizer", "change"]
    settings: type[MethodSettings]

    base_settings: ClassVar[type[MethodSettings]] = MethodSettings

    def __post_init__(self) -> None:
        """TypeError where the settings are not those of the family."""
        if not (isinstance(self.settings, type) and issubclass(self.settings, self.base_settings)):
            raise TypeError(f"{self.name}: settings of a {type(self).__name__} extend {self.base_settings.__name__}")


@dataclass(frozen=True, kw_only=True)
class LabelMethod(Intervention):
    """Phase 3 imitates labels: a proposal, a score, a selection.

    Kept apart on purpose: the proposal decides the shift in distribution, the score and the selection decide what is kept
    of it, and one set of candidates then serves every method (arXiv 2606.03810).

    Candidates come as a table with one row per completion: prompt_id, draw, sample, candidate (0, 1, ... within the
    prompt, in the order of the draws), completion, tokens, logprob, proposal_logprob, verdict, and `given_score` where
    the method has a scorer.

    Attributes:
        draws: (settings, samples) -> the proposal, one or more ways of drawing; `samples` is the study's number of
            candidates per prompt, at least.
        scorer: (settings, samples) -> the score that has to be asked for, or None.
        score: (candidates, seed) -> one float per row, NaN where missing; higher is better.
        select: (scored candidates, settings) -> the rows kept, at most one per prompt.
        selection: what `select` does.
    """

    draws: Callable[[MethodSettings, int], tuple[Draw, ...]]
    scorer: Callable[[MethodSettings, int], Scorer | None]
    score: Callable[[pandas.DataFrame, int], pandas.Series]
    select: Callable[[pandas.DataFrame, MethodSettings], pandas.DataFrame]
    selection: Selection = "none"


@dataclass(frozen=True, kw_only=True)
class ConsistencyLoss(Intervention):
    """Phase 3 makes one side of the pairs like the other; its labels are the reference answers, as they were drawn.

    Attributes:
        draws: (settings, samples) -> how the reference answers are drawn.
        objective: what is made equal.
    """

    draws: Callable[[PairSettings, int], tuple[Draw, ...]]
    objective: Objective

    base_settings: ClassVar[type[MethodSettings]] = PairSettings
    selection: ClassVar[Selection] = "none"

    def scorer(self, settings: PairSettings, samples: int) -> None:
        """Nothing has to be asked for."""

    def score(self, candidates: pandas.DataFrame, seed: int) -> pandas.Series:
        """Missing for every answer."""
        return no_score(candidates, seed)

    def select(self, candidates: pandas.DataFrame, settings: PairSettings) -> pandas.DataFrame:
        """The answers as they were drawn."""
        return first(candidates, settings)


@dataclass(frozen=True, kw_only=True)
class ModelChange(Intervention):
    """Makes a model without labels and without training: of the organism and of finished models of the same organism.

    The entries of the study whose models those are stand in its settings: `made_from`.

    Attributes:
        apply: (settings, the organism's delta, entry -> the delta of its model) -> the new delta. A delta maps modules to
            low-rank factors; that of an entry and the new one are what is added to the organism. No modules: the organism
            itself.
        predict: (settings, entry -> its prediction, entries without one left out) -> the predicted change of risk, made
            before the model is; None: nothing is predicted.
    """

    apply: "Callable[[ModelChangeSettings, Deltas, Mapping[str, Deltas]], Deltas]"
    predict: "Callable[[ModelChangeSettings, Mapping[str, Prediction]], Prediction] | None" = None

    base_settings: ClassVar[type[MethodSettings]] = ModelChangeSettings


Trained = LabelMethod | ConsistencyLoss
FAMILIES = (LabelMethod, ConsistencyLoss, ModelChange)
