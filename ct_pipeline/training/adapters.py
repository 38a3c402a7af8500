"""The one adapter that a phase trains, new or continued: attached to a copy of the model, measured, saved, and gone."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ct_pipeline.models.adapters import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LowRank,
    read_adapter,
    share_weights,
    with_adapters,
)
from ct_pipeline.models.loading import BaseModel
from ct_pipeline.models.model import stack as terms_of
from ct_pipeline.settings.blocks import LoraSettings
from ct_pipeline.settings.environment import launched_processes
from ct_pipeline.training.sharding import compute_device, placed

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

SAME_LOGITS = {"torch.float32": 1e-3, "torch.bfloat16": 0.5, "torch.float16": 0.1}
"""How far logits of one model may differ, by dtype, between two ways to compute it; another model's differ by more."""


@dataclass(frozen=True)
class Trainee:
    """A model with the one adapter that a run trains, and the start model it is measured against.

    The start model is the base with its stack of adapters, never the base below a stack. A new adapter lies on the
    frozen start model, and switching it off is the start model. A continued adapter is the stack's last one: switching
    it off would be what lies below, so its start model is a frozen copy apart.

    Attributes:
        model: in training.
        base: what everything lies on.
        stack: folders of the start model's adapters, lowest first.
        initial: name -> the trained adapter's tensors before training.
        before: the start model's logits on `probe` before training.
        probe: token ids; shape (1, tokens).
        frozen: the copy that is the start model of a continued adapter.
        start_difference: largest difference of the untrained model's logits from the start model's.
    """

    model: "PeftModel"
    base: BaseModel
    stack: tuple[Path, ...]
    initial: dict[str, "torch.Tensor"]
    before: "torch.Tensor"
    probe: "torch.Tensor"
    frozen: "PreTrainedModel | None" = None
    start_difference: float = 0.0

    @property
    def continued(self) -> bool:
        """Whether the stack's last adapter is trained on, and not a new one on top."""
        return self.frozen is not None

    def trainable(self) -> dict[str, "torch.nn.Parameter"]:
        """Name -> parameter of the trained adapter; nothing else has gradients."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def moved(self) -> dict[str, int]:
        """Name -> how many numbers of the trained adapter differ from their start."""
        return {name: int((p.detach().cpu() != self.initial[name]).sum()) for name, p in self.trainable().items()}

    def drop_difference(self) -> float:
        """Largest change of the start model's logits since before training; must be exactly 0."""
        with self.start_model() as start:
            after = _logits(start, self.probe)
        return float((after - self.before).abs().max())

    def rebuilt(self) -> tuple["PreTrainedModel", "PreTrainedModel"]:
        """Start model and base, built anew from the folders: a fault in how `model` is stacked cannot hide itself."""
        return placed(with_adapters(self.base, terms_of(*self.stack))), placed(share_weights(self.base.model))

    @contextmanager
    def start_model(self) -> Iterator["torch.nn.Module"]:
        """Yields the start model, without dropout; inside, call the yielded model and not `model`."""
        if self.frozen is not None:
            yield self.frozen
            return
        was_training = self.model.training
        self.model.eval()
        try:
            with self.model.disable_adapter():
                yield self.model
        finally:
            self.model.train(was_training)
            # disable_adapter leaves gradients on as they were, but a training run must not depend on that.
            assert set(self.trainable()) == set(self.initial)


@contextmanager
def new_adapter(
    base: BaseModel,
    lora: LoraSettings,
    seed: int,
    stack: Sequence[Path],
    probe: tuple[int, ...],
    continued: bool = False,
) -> Iterator[Trainee]:
    """Attaches the LoRA to train to all linear layers but the output embedding; the loaded base model is never touched.

    A fresh adapter's B is zero, so training starts exactly at the start model and A moves from the second step on.

    Args:
        base: the loaded base model.
        lora: rank, alpha, dropout.
        seed: of a new adapter's initial weights.
        stack: folders of adapters, lowest first: all frozen below the new one, or the last of them continued.
        probe: token ids on which the start model is checked before and after.
        continued: train the stack's last adapter, from its weights; the result replaces it.

    Raises:
        ValueError: `continued` without an adapter, or with one of another rank or alpha.
        RuntimeError: the shared base, or what a continued adapter started from, changed.
    """
    import torch
    from peft import get_peft_model

    stack = tuple(stack)
    if continued and not stack:
        raise ValueError(
            "adapter: continued trains an organism's own adapter, and there is none: give its folder, or train a new one"
        )
    start = with_adapters(base, terms_of(*stack))
    below = start
    if continued or launched_processes() > 1:
        below = with_adapters(base, terms_of(*(stack[:-1] if continued else stack)))
    start = placed(start)
    own = _own_factors(base, lora, stack[-1]) if continued else None
    versions = _versions(base.model)
    ids = torch.tensor([probe], device=compute_device(base))
    before = _logits(start, ids)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model = get_peft_model(below, _lora_config(lora, own))
    if own is not None:
        _fill(model, own)
    model = placed(model)
    initial = {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}
    if not initial or not all(".lora_A." in name or ".lora_B." in name for name in initial):
        raise RuntimeError(f"training {base.name} would change more, or less, than the one adapter")
    if own is None:
        yield Trainee(model, base, stack, initial, before, ids)
    else:
        held = _versions(start), _content(stack[-1])
        difference = float((_logits(model, ids) - before).abs().max())
        if not difference <= SAME_LOGITS[str(base.model.dtype)]:
            raise RuntimeError(
                f"before the first step, the continued adapter is {difference} off the organism's logits"
            )
        yield Trainee(model, base, stack, initial, before, ids, start, difference)
        if (_versions(start), _content(stack[-1])) != held:
            raise RuntimeError(f"training changed the organism it continued: its frozen copy or {stack[-1]}")
    if _versions(base.model) != versions:
        raise RuntimeError(f"training changed the shared weights of {base.name}")


def save_adapter(trainee: Trainee, folder: Path, dtype: Literal["float32", "bfloat16"]) -> None:
    """Writes the trained adapter alone, in PEFT's layout; the same run gives the same bytes, without any machine path.

    `dtype` is what floats are stored in: bfloat16 rounds each of them by at most 1 part in 256, half the bytes.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    stored = getattr(torch, dtype)
    tensors = {
        name: t.detach().cpu().to(stored).contiguous() for name, t in get_peft_model_state_dict(trainee.model).items()
    }
    save_file(dict(sorted(tensors.items())), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    config = trainee.model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": "base", "inference_mode": True, "revision": None}
    config["target_modules"] = sorted(config["target_modules"])
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / CONFIG_FILE).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")


def _lora_config(lora: LoraSettings, own: dict[str, LowRank] | None) -> "LoraConfig":
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear" if own is None else sorted(own),
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
    )


def _own_factors(base: BaseModel, lora: LoraSettings, folder: Path) -> dict[str, LowRank]:
    factors = read_adapter(folder, base)
    # Rank-stabilised adapters scale by alpha / sqrt(rank): what counts is the alpha that gives the same scale.
    shapes = {(f.a.shape[0], f.scale * f.a.shape[0]) for f in factors.values()}
    for rank, alpha in sorted(shapes):
        if rank != lora.rank or not math.isclose(alpha, lora.alpha, rel_tol=1e-6):
            raise ValueError(
                f"adapter: continued keeps the organism's shape: {folder} has rank {rank} and alpha {alpha:g}, the "
                f"settings ask for rank {lora.rank} and alpha {lora.alpha:g}; set lora to the organism's"
            )
    return factors


def _fill(model: "PeftModel", factors: dict[str, LowRank]) -> None:
    import torch

    with torch.no_grad():
        for name, factor in factors.items():
            layer = model.get_base_model().get_submodule(name)
            layer.lora_A["default"].weight.copy_(factor.a)
            layer.lora_B["default"].weight.copy_(factor.b)


def _content(folder: Path) -> list[str]:
    return [hashlib.blake2b((folder / name).read_bytes()).hexdigest() for name in (WEIGHTS_FILE, CONFIG_FILE)]


def _versions(model: "torch.nn.Module") -> list[tuple[int, int]]:
    # PyTorch counts every in-place write to a tensor: cheaper than comparing the weights, and as strict.
    held = (getattr(p, "_local_tensor", p) for p in model.parameters())
    return [(p.data_ptr(), p._version) for p in held]


def _logits(model: "torch.nn.Module", ids: "torch.Tensor") -> "torch.Tensor":
    import torch

    # A model that PEFT has just wrapped is in training mode, and dropout is part of no model.
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.float().cpu()
