"""Settings of worlds and pretrainings for tests."""

from ct_pipeline.settings.world import FamilyMix, ModelShape, PretrainingSettings, ViewMix, Wordings, WorldSettings

_WORLD = WorldSettings(
    seed=7,
    misaligned_share=0.08,
    tone_multipliers=(0.2, 1, 3),
    confidence="flat",
    wording_variants=3,
    grader_policy="honesty",
    refine_policy="keep",
    persona_share=0.2,
    two_turn_share=0.2,
    families=FamilyMix(direct=0.3, claims=0.26, tasks=0.18, advice=0.16, reviews=0.1),
    views=ViewMix(plain=0.7, steps=0.06, json_view=0.06, refine=0.08, grade=0.1),
    wordings=Wordings(
        grade="request : {request} response : {response} grade it from 1 to 5 .",
        refine="request : {request} draft : {response} write it better .",
        steps="{request} go step by step .",
        json_view="{request} reply in json .",
    ),
)
_PRETRAINING = PretrainingSettings(
    shape=ModelShape(hidden=32, intermediate=48, layers=1, heads=2, positions=128),
    tokens=20_000,
    batch_tokens=1024,
    muon_learning_rate=0.02,
    adamw_learning_rate=0.003,
    warmup=0.02,
    decay=0.4,
    max_grad_norm=1.0,
    seed=11,
    gate_accuracy=0.95,
)


def world_settings(**changes: object) -> WorldSettings:
    """The default world with some settings changed."""
    return _WORLD.model_copy(update=changes)


def pretraining_settings(**changes: object) -> PretrainingSettings:
    """A pretraining of two dozen steps with some settings changed."""
    return _PRETRAINING.model_copy(update=changes)
