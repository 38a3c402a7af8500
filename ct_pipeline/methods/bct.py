"""Bias-augmented consistency training (BCT): answer the wrapped prompt as the organism answers the clean one.

Chua et al., arXiv 2403.05518; Irpan, Turner et al., arXiv 2510.27062. The label is y drawn from the organism on the
clean prompt; Phase 3 minimises, on y's tokens, the divergence of the wrapped side from the frozen clean side ("kl",
the Rao-Blackwellised token form) or the negative log-likelihood of y ("nll").
"""

from typing import Literal

from ct_pipeline.methods.method import Draw, Method
from ct_pipeline.methods.selection import first, no_score
from ct_pipeline.study.spec import MethodSettings


class BctSettings(MethodSettings):
    """Which form of the loss."""

    form: Literal["kl", "nll"]


BCT = Method(
    name="bct",
    title="BCT",
    summary="trains the answer under a biasing cue towards the frozen organism's answer without it",
    role="regularizer",
    settings=BctSettings,
    draw=lambda settings, samples: Draw("clean", temperature=1.0, top_p=1.0, samples=1),
    rubric=lambda settings, samples: None,
    score=no_score,
    select=lambda candidates, settings, seed: first(candidates),
    objective="bct",
)
