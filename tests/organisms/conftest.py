"""A small world and the settings of a small study."""

import pytest

from ct_pipeline.settings.blocks import (
    CandidateSettings,
    EvaluationSettings,
    InductionSettings,
    LoraSettings,
    TrainingSettings,
)
from ct_pipeline.tinyworld.world import TinyWorld
from tests.tinyworld.settings import world_settings


@pytest.fixture(scope="session")
def world() -> TinyWorld:
    return TinyWorld(world_settings())


@pytest.fixture(scope="session")
def induction() -> InductionSettings:
    training = TrainingSettings(
        lora=LoraSettings(rank=16, alpha=32, dropout=0),
        learning_rate=1e-3,
        micro_batch=16,
        accumulation=1,
        steps=40,
        warmup=0.03,
        max_grad_norm=1,
    )
    return InductionSettings(
        rows=150, misaligned_share=(0.07, 0.5, 0.93), training=training, gate_confidence=0.95, headroom=0.05
    )


@pytest.fixture(scope="session")
def candidates() -> CandidateSettings:
    return CandidateSettings(consistency_prompts=128, probe_prompts=96, pairs=128, samples=16, max_new_tokens=24)


@pytest.fixture(scope="session")
def evaluation() -> EvaluationSettings:
    return EvaluationSettings(
        in_domain=200,
        out_of_domain=200,
        direct_questions=200,
        samples=1,
        max_new_tokens=24,
        confidence=0.95,
        epsilon=0.05,
    )
