"""What a consistency method is: a proposal, a score, a selection, and the objective its labels are trained on.

Kept apart on purpose: the proposal decides the shift in distribution, the score and the selection decide what is kept
of it, and one set of candidates then serves every method (arXiv 2606.03810).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas

from ct_pipeline.study.spec import MethodSettings

Objective = Literal["labels", "bct"]


@dataclass(frozen=True)
class Draw:
    """One way of drawing candidates from an organism, once, for all methods that name it.

    `prompts` is "consistency" (the consistency and the probe prompts) or "clean" (the clean side of the pairs);
    temperature 0 is greedy; `top_p` truncates after the temperature.
    """

    prompts: Literal["consistency", "clean"]
    temperature: float
    top_p: float
    samples: int

    @property
    def id(self) -> str:
        """A readable name, equal for equal draws: greedy, t0.7-p0.9-n16, clean-t1-n1."""
        law = "greedy" if self.temperature == 0 else f"t{self.temperature:g}-p{self.top_p:g}-n{self.samples}"
        return law if self.prompts == "consistency" else f"{self.prompts}-{law}"


@dataclass(frozen=True)
class Rubric:
    """A score that the organism itself gives each candidate of a draw, by answering a grading request greedily.

    `request` holds {request} (the last user message) and {response}; the reply's first word must be one of `grades`
    (worst first), else the score is missing.
    """

    draw: Draw
    request: str
    grades: tuple[str, ...]


@dataclass(frozen=True)
class Method:
    """One consistency method.

    Attributes:
        name: the paper's name in lower case with underscores.
        title: how a report names it.
        summary: one sentence.
        role: "method", "control" or "regularizer".
        settings: the class its block in a study file is read into.
        draw: (settings, samples) -> the proposal; `samples` is the study's number of candidates per prompt.
        rubric: (settings, samples) -> the model-given score it needs, or None.
        score: candidates table -> one float per row, NaN where missing; higher is better.
        select: (scored candidates of one draw, settings, seed) -> the rows kept, at most one per prompt.
        objective: what Phase 3 minimises: "labels" (imitate the completion) or "bct".
    """

    name: str
    title: str
    summary: str
    role: Literal["method", "control", "regularizer"]
    settings: type[MethodSettings]
    draw: Callable[[MethodSettings, int], Draw]
    rubric: Callable[[MethodSettings, int], Rubric | None]
    score: Callable[[pandas.DataFrame], pandas.Series]
    select: Callable[[pandas.DataFrame, MethodSettings, int], pandas.DataFrame]
    objective: Objective = "labels"
