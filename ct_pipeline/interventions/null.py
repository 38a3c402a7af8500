"""Null control: one sample from the model's own untruncated distribution.

The expected gradient of log P under P is zero, so only sampling noise and the optimizer's drift remain: what every
other method is compared with.
"""

from ct_pipeline.interventions.intervention import LabelMethod
from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.interventions.selection import first, no_score, no_scorer
from ct_pipeline.settings.study import MethodSettings


class NullSettings(MethodSettings):
    """The null control has nothing to set."""


NULL = LabelMethod(
    name="null",
    title="Null",
    summary="trains on one own sample at temperature 1: only noise and optimizer drift",
    role="control",
    settings=NullSettings,
    draws=lambda settings, samples: (Draw("consistency", temperature=1.0, top_p=1.0, samples=1),),
    scorer=no_scorer,
    score=no_score,
    select=first,
)
