"""The teacher shift of a few pairs against what BCT itself sees before its first step."""

import pytest

from ct_pipeline.analysis.divergence import of_token_sums
from ct_pipeline.engine.token_divergence import Distribution
from ct_pipeline.measurement.token_sums import token_sums
from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.models.model import stack
from tests.fakes.tiny_models import random_adapter, tiny_base
from tests.training.losses import train_bct
from tests.training.rows import pair_rows, settings


def test_the_teacher_shift_per_token_is_the_first_loss_of_bct(tmp_path):
    base = tiny_base()
    organism = random_adapter(base, tmp_path / "organism", 1)
    pairs = pair_rows(24)
    clean, wrapped = (
        Distribution(with_adapters(base, stack(organism)), [getattr(pair, side) for pair in pairs])
        for side in ("clean_ids", "wrapped_ids")
    )
    names = [str(number) for number in range(len(pairs))]
    sums = token_sums(base, clean, wrapped, names, [pair.completion_ids for pair in pairs])
    shift = of_token_sums("teacher shift", sums)

    record = train_bct(base, pairs, settings(len(pairs), 1, steps=1), 0, tmp_path / "bct", organism)

    assert shift.token.value == pytest.approx(record.losses[0], rel=1e-4)
    assert shift.token.value == pytest.approx(record.checks["teacher_shift"], rel=1e-4)
    assert shift.token.value > 0.1
