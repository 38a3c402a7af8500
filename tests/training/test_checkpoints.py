"""Checkpoints after every pass over the rows."""

import pytest

from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE
from tests.fakes.tiny_models import random_adapter, tiny_base
from tests.training.losses import train_bct, train_on_labels
from tests.training.rows import label_rows, pair_rows, retraining, settings


@pytest.fixture(scope="module")
def base():
    return tiny_base()


def folders(out):
    return sorted(path.name for path in out.iterdir() if path.is_dir())


def content(folder):
    return {name: (folder / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)}


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        ({"steps": None, "epochs": 2}, (3, 6)),
        ({"steps": 6}, (3, 6)),
        ({"steps": 7}, (3, 6, 7)),
        ({"steps": 2}, (2,)),
        ({"steps": None, "epochs": 1.5}, (3, 5)),
    ],
)
def test_one_is_kept_after_every_pass_and_at_the_end(base, tmp_path, schedule, steps):
    rows = label_rows(20)  # 3 steps of 8 rows, the last of 4
    record = train_on_labels(base, rows, retraining(4, 2, checkpoints="epoch", **schedule), 0, tmp_path / "a", None)
    assert record.checkpoints == steps
    assert record.steps == steps[-1]
    assert folders(tmp_path / "a") == [f"epoch-{n + 1}" for n in range(len(steps))]
    assert content(tmp_path / "a" / f"epoch-{len(steps)}") == content(tmp_path / "a")
    kept = [content(tmp_path / "a" / name)[WEIGHTS_FILE] for name in folders(tmp_path / "a")]
    assert len(set(kept)) == len(steps)


def test_keeping_checkpoints_changes_no_training(base, tmp_path):
    for name in ("epoch", "last"):
        options = retraining(8, 1, steps=3, dropout=0.1, checkpoints=name)
        train_on_labels(base, label_rows(8), options, 0, tmp_path / name, None)
    assert content(tmp_path / "epoch") == content(tmp_path / "last")


@pytest.mark.parametrize("adapter", ["new", "continued"])
def test_bct_keeps_them_too(base, tmp_path, adapter):
    organism = random_adapter(base, tmp_path / "organism", seed=5)
    options = retraining(8, 1, steps=5, checkpoints="epoch", adapter=adapter)
    record = train_bct(base, pair_rows(16), options, 0, tmp_path / "a", organism)
    assert record.checkpoints == (2, 4, 5)
    assert folders(tmp_path / "a") == ["epoch-1", "epoch-2", "epoch-3"]
    assert content(tmp_path / "a" / "epoch-3") == content(tmp_path / "a")


@pytest.mark.parametrize("options", [settings(steps=4), retraining(steps=4)])
def test_without_the_option_only_the_last_is_kept(base, tmp_path, options):
    record = train_on_labels(base, label_rows(8), options, 0, tmp_path / "a", None)
    assert record.checkpoints == ()
    assert folders(tmp_path / "a") == []
