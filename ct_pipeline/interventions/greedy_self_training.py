"""Greedy self-training control (GST): the model imitates its own greedy answers; no selection, only shift."""

from ct_pipeline.interventions.intervention import LabelMethod
from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.interventions.selection import first, no_score, no_scorer
from ct_pipeline.settings.study import MethodSettings


class GreedySelfTrainingSettings(MethodSettings):
    """Greedy decoding has nothing to set."""


GREEDY_SELF_TRAINING = LabelMethod(
    name="greedy_self_training",
    title="Greedy self-training",
    summary="trains on the model's own greedy answers",
    role="control",
    settings=GreedySelfTrainingSettings,
    draws=lambda settings, samples: (Draw("consistency", temperature=0.0, top_p=1.0, samples=1),),
    scorer=no_scorer,
    score=no_score,
    select=first,
)
