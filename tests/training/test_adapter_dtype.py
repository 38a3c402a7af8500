"""Adapters stored in bfloat16: half the bytes, the same training, rounded once."""

import pytest
import torch
from safetensors.torch import load_file

from ct_pipeline.models.adapters import WEIGHTS_FILE, read_adapter, with_adapters
from ct_pipeline.models.model import stack
from ct_pipeline.settings.fingerprint import plain
from tests.fakes.tiny_models import random_adapter, tiny_base
from tests.training.losses import train_bct, train_on_labels
from tests.training.rows import label_rows, pair_rows, retraining


@pytest.fixture(scope="module")
def base():
    return tiny_base()


def trained(base, folder, dtype, train=train_on_labels, rows=label_rows, organism=None, **options):
    settings = retraining(8, 1, steps=3, checkpoints="epoch", **options).model_copy(update={"adapter_dtype": dtype})
    record = train(base, rows(8), settings, 0, folder, organism)
    return record, {name: load_file(path) for path in folder.rglob(WEIGHTS_FILE) for name in [path.parent.name]}


def test_the_training_is_the_same_and_the_file_is_its_result_rounded_once(base, tmp_path):
    single, kept = trained(base, tmp_path / "single", "float32")
    half, rounded = trained(base, tmp_path / "half", "bfloat16")
    assert half.losses == single.losses
    assert set(rounded) == {"half", "epoch-1", "epoch-2", "epoch-3"}
    for name, tensors in rounded.items():
        for key, tensor in tensors.items():
            exact = kept["single" if name == "half" else name][key]
            assert (exact.dtype, tensor.dtype) == (torch.float32, torch.bfloat16)
            assert torch.equal(tensor, exact.to(torch.bfloat16))
            assert torch.all((tensor.float() - exact).abs() <= exact.abs() / 256)


def test_the_file_has_half_the_bytes_and_is_read_as_any_other(base, tmp_path):
    for name, dtype in (("single", "float32"), ("half", "bfloat16")):
        trained(base, tmp_path / name, dtype)
    numbers = sum(d.a.numel() + d.b.numel() for d in read_adapter(tmp_path / "half", base).values())
    sizes = {name: (tmp_path / name / WEIGHTS_FILE).stat().st_size for name in ("single", "half")}
    assert sizes["single"] - sizes["half"] == pytest.approx(2 * numbers, abs=200)
    ids = torch.tensor([label_rows(1)[0].prompt_ids])
    single, half = (with_adapters(base, stack(tmp_path / name))(input_ids=ids).logits for name in ("single", "half"))
    plain_logits = with_adapters(base, ())(input_ids=ids).logits
    assert 0 < float((single - half).detach().abs().max()) < 0.02 * float((single - plain_logits).detach().abs().max())


def test_the_internal_methods_and_a_continued_adapter_store_it_too(base, tmp_path):
    organism = random_adapter(base, tmp_path / "organism", seed=5)
    for adapter in ("new", "continued"):
        _, kept = trained(base, tmp_path / adapter, "bfloat16", train_bct, pair_rows, organism, adapter=adapter)
        assert {t.dtype for tensors in kept.values() for t in tensors.values()} == {torch.bfloat16}


def test_settings_without_it_have_the_fingerprints_they_had():
    assert "adapter_dtype" not in plain(retraining(steps=3))
    assert plain(retraining(steps=3).model_copy(update={"adapter_dtype": "bfloat16"}))["adapter_dtype"] == "bfloat16"


def test_an_adapter_on_a_half_precision_base_is_trained_in_single(tmp_path):
    base = tiny_base()
    base.model.to(torch.bfloat16)
    _, kept = trained(base, tmp_path / "a", "float32")
    for tensor in kept["a"].values():
        assert tensor.dtype == torch.float32
        assert not torch.equal(tensor, tensor.to(torch.bfloat16).float()), "finer than bfloat16: it was not rounded"
