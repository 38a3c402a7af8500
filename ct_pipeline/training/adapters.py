"""The one trainable adapter of a phase: attached to a copy of the model's structure, measured, saved, and gone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, with_adapters
from ct_pipeline.models.loading import BaseModel
from ct_pipeline.study.settings import LoraSettings

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


@dataclass(frozen=True)
class Trainee:
    """A frozen start model with one new adapter on it.

    The start model is the base, or the organism when a frozen organism adapter lies below: with the new adapter
    disabled, the model computes the organism exactly, never the base.
    """

    model: "PeftModel"
    initial: dict[str, "torch.Tensor"]
    before: "torch.Tensor"
    probe: "torch.Tensor"

    def trainable(self) -> dict[str, "torch.nn.Parameter"]:
        """Name -> parameter of the new adapter; nothing else has gradients."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def counts(self) -> tuple[int, int]:
        """How many numbers the new adapter has, and how many of them differ from their start."""
        moved = sum(int((p.detach().cpu() != self.initial[name]).sum()) for name, p in self.trainable().items())
        return sum(p.numel() for p in self.trainable().values()), moved

    def unmoved(self) -> tuple[str, ...]:
        """Names of the new adapter's tensors of which not one number differs from its start."""
        return tuple(
            name for name, p in self.trainable().items() if bool((p.detach().cpu() == self.initial[name]).all())
        )

    def drop_difference(self) -> float:
        """Largest change of the start model's logits once the new adapter is dropped again; must be exactly 0."""
        with self.start_model():
            after = _logits(self.model, self.probe)
        return float((after - self.before).abs().max())

    @contextmanager
    def start_model(self) -> Iterator[None]:
        """Switches the new adapter and all dropout off: the model is the organism (or the base, when none is below)."""
        was_training = self.model.training
        self.model.eval()
        try:
            with self.model.disable_adapter():
                yield
        finally:
            self.model.train(was_training)
            # disable_adapter leaves gradients on as they were, but a training run must not depend on that.
            assert set(self.trainable()) == set(self.initial)


@contextmanager
def new_adapter(
    base: BaseModel, lora: LoraSettings, seed: int, stacked_on: Path | None, probe: tuple[int, ...]
) -> Iterator[Trainee]:
    """Attaches a new LoRA to all linear layers but the output embedding; the loaded base model is never touched.

    A fresh adapter's B is zero, so training starts exactly at the start model and A moves from the second step on.

    Args:
        base: the loaded base model.
        lora: rank, alpha, dropout.
        seed: of the new adapter's initial weights.
        stacked_on: folder of a frozen organism adapter to lie below, or None.
        probe: token ids on which dropping the adapter is checked.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    start = with_adapters(base, () if stacked_on is None else (stacked_on,))
    versions = _versions(base)
    ids = torch.tensor([probe], device=base.device)
    before = _logits(start, ids)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model = get_peft_model(
            start,
            LoraConfig(
                task_type="CAUSAL_LM",
                target_modules="all-linear",
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
            ),
        )
    initial = {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}
    if not initial or not all(".lora_A." in name or ".lora_B." in name for name in initial):
        raise RuntimeError(f"training {base.name} would change more, or less, than the new adapter")
    yield Trainee(model, initial, before, ids)
    if _versions(base) != versions:
        raise RuntimeError(f"training changed the shared weights of {base.name}")


def save_adapter(trainee: Trainee, folder: Path) -> None:
    """Writes the new adapter alone, in PEFT's layout; the same run gives the same bytes, without any machine path."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in get_peft_model_state_dict(trainee.model).items()}
    save_file(dict(sorted(tensors.items())), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    config = trainee.model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": "base", "inference_mode": True, "revision": None}
    config["target_modules"] = sorted(config["target_modules"])
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / CONFIG_FILE).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")


def _versions(base: BaseModel) -> list[tuple[int, int]]:
    # PyTorch counts every in-place write to a tensor: cheaper than comparing the weights, and as strict.
    return [(p.data_ptr(), p._version) for p in base.model.parameters()]


def _logits(model: "torch.nn.Module", ids: "torch.Tensor") -> "torch.Tensor":
    import torch

    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.float().cpu()
