"""Small random rows and settings for training tests."""

import numpy as np

from ct_pipeline.settings.blocks import LoraSettings, RetrainingSettings, TrainingSettings
from ct_pipeline.training.examples import LabelRow, PairRow
from tests.fakes.tiny_models import END, VOCABULARY


def tokens(generator, low, high):
    return tuple(generator.integers(8, VOCABULARY, size=generator.integers(low, high)).tolist())


def label_rows(count, seed=0):
    generator = np.random.default_rng(seed)
    return [LabelRow(tokens(generator, 3, 20), (*tokens(generator, 1, 12), END)) for _ in range(count)]


def pair_rows(count, seed=0):
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        clean = tokens(generator, 3, 14)
        rows.append(PairRow(clean, (*tokens(generator, 1, 9), *clean), (*tokens(generator, 1, 12), END)))
    return rows


def settings(micro_batch=8, accumulation=1, steps=3, epochs=None, dropout=0.0, learning_rate=1e-3):
    return TrainingSettings(
        lora=LoraSettings(rank=4, alpha=8, dropout=dropout),
        learning_rate=learning_rate,
        micro_batch=micro_batch,
        accumulation=accumulation,
        steps=steps,
        epochs=epochs,
        warmup=0.0,
        max_grad_norm=1.0,
    )


def retraining(*args, rank=4, alpha=8, adapter="new", checkpoints="last", loss_on="response", **kwargs):
    """Settings of Phase 3: those of `settings`, with its options."""
    fields = settings(*args, **kwargs).model_dump() | {"loss_on": loss_on}
    fields["lora"] |= {"rank": rank, "alpha": alpha}
    return RetrainingSettings(**fields, adapter=adapter, checkpoints=checkpoints)
