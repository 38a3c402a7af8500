"""Self-confidence (SC): of k samples, keep the one whose tokens the model finds most probable (arXiv 2606.03810)."""

from typing import Annotated

import pandas
from pydantic import Field

from ct_pipeline.methods.method import Draw, Method
from ct_pipeline.methods.selection import best_of
from ct_pipeline.study.settings import Candidates, Real
from ct_pipeline.study.spec import MethodSettings


class SelfConfidenceSettings(MethodSettings):
    """Best of k by mean token log-probability."""

    k: Candidates
    temperature: Annotated[Real, Field(gt=0, le=5)]
    top_p: Annotated[Real, Field(gt=0, le=1)]


def mean_token_logprob(candidates: pandas.DataFrame) -> pandas.Series:
    """Log-probability per drawn token at temperature 1, in nats; missing for an empty completion."""
    return (candidates["logprob"] / candidates["tokens"].where(candidates["tokens"] > 0)).astype(float)


SELF_CONFIDENCE = Method(
    name="self_confidence",
    title="Self-confidence",
    summary="keeps the sample with the highest mean token log-probability",
    role="method",
    settings=SelfConfidenceSettings,
    draw=lambda settings, samples: Draw("consistency", settings.temperature, settings.top_p, max(samples, settings.k)),
    rubric=lambda settings, samples: None,
    score=mean_token_logprob,
    select=lambda candidates, settings, seed: best_of(candidates, settings.k),
)
