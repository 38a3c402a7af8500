"""Trains with every objective as one of the processes of a launch: accelerate launch -m tests.training.launched FOLDER."""

import dataclasses
import json
import os
import sys
from pathlib import Path

from ct_pipeline.training.internal import InternalStates
from tests.fakes.tiny_models import random_adapter, tiny_base
from tests.training.losses import train_bct, train_internal, train_on_labels
from tests.training.rows import label_rows, pair_rows, retraining

ROWS = 18  # Two effective batches of 8, and one of 2, of which the second process has none.
SCHEDULE = {"micro_batch": 2, "accumulation": 4, "steps": None, "epochs": 2}

OBJECTIVES = {
    "labels": lambda *how: train_on_labels(how[0], label_rows(ROWS), *how[1:]),
    "bct": lambda *how: train_bct(how[0], pair_rows(ROWS), *how[1:]),
    "act": lambda *how: train_internal(how[0], pair_rows(ROWS), *how[1:], InternalStates("residual")),
    "attct": lambda *how: train_internal(how[0], pair_rows(ROWS), *how[1:], InternalStates("attention")),
    "continued": lambda *how: train_bct(how[0], pair_rows(ROWS), *how[1:], teacher="live", window="trailing"),
}


def train(name, folder):
    """Runs one objective on a tiny organism; the adapter goes to folder/name, its record to folder/name.json."""
    folder.mkdir(parents=True, exist_ok=True)
    base = tiny_base()
    organism = random_adapter(base, folder / "organism", seed=5)
    settings = retraining(**SCHEDULE, adapter="continued" if name == "continued" else "new")
    record = OBJECTIVES[name](base, settings, 3, folder / name, organism)
    (folder / f"{name}.json").write_text(json.dumps(dataclasses.asdict(record)))


def share_of_weights():
    """What share of a model's weights this process holds."""
    from ct_pipeline.models.adapters import share_weights
    from ct_pipeline.training.sharding import placed

    base = tiny_base()
    held = sum(p.to_local().numel() for p in placed(share_weights(base.model)).parameters())
    return held / sum(p.numel() for p in base.model.parameters())


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    for objective in OBJECTIVES:
        train(objective, Path(sys.argv[1]) / os.environ["RANK"])
    (Path(sys.argv[1]) / os.environ["RANK"] / "share.json").write_text(json.dumps(share_of_weights()))
    torch.distributed.destroy_process_group()
