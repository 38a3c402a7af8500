"""The teacher shift of a few pairs against what BCT itself sees before its first step."""

import pytest

from ct_pipeline.analysis.divergence import of_token_sums
from ct_pipeline.engine.token_divergence import Law
from ct_pipeline.stages.language_model import LanguageModel
from ct_pipeline.stages.token_sums import token_sums
from ct_pipeline.training.bct import train_bct
from tests.fakes.tiny_models import random_adapter, tiny_folder
from tests.training.rows import pair_rows, settings


def test_the_teacher_shift_per_token_is_the_first_loss_of_bct(tmp_path):
    model = LanguageModel(tiny_folder(tmp_path / "model"), None, None, "transformers", 16)
    organism = random_adapter(model.base, tmp_path / "organism", 1)
    pairs = pair_rows(24)
    clean, wrapped = (
        Law([getattr(pair, side) for pair in pairs], (organism,)) for side in ("clean_ids", "wrapped_ids")
    )
    names = [str(number) for number in range(len(pairs))]
    sums = token_sums(model, clean, wrapped, names, [pair.completion_ids for pair in pairs])
    shift = of_token_sums("teacher shift", sums)

    record = train_bct(model.base, pairs, settings(len(pairs), 1, steps=1), 0, tmp_path / "bct", organism)

    assert shift.token.value == pytest.approx(record.losses[0], rel=1e-4)
    assert shift.token.value == pytest.approx(record.checks["teacher_shift"], rel=1e-4)
    assert shift.token.value > 0.1
