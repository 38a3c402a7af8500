"""Stacks of LoRA adapters written as one LoRA folder, for engines that take one adapter per request."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, LowRank, read_terms
from ct_pipeline.models.loading import BaseModel
from ct_pipeline.models.model import Term

if TYPE_CHECKING:
    import torch

_PREFIX = "base_model.model."


def write_stack(base: BaseModel, terms: Sequence[Term], target: Path) -> int:
    """Writes a weighted sum of adapters as one plain LoRA with scale 1, an empty one as a LoRA that changes nothing.

    Factors are concatenated, which gives the exact sum of the deltas; each scale and weight is folded into its second
    factor.

    Args:
        base: the base of all adapters; only its modules and shapes are read, so it may live on the meta device.
        terms: the adapters and their weights.
        target: the folder to write; it is made.

    Returns:
        The rank: the sum of the ranks of all adapters whose weight is not 0, at least 1.

    Raises:
        ValueError: as `read_adapter`.
    """
    from safetensors.torch import save_file
    from torch.nn.functional import pad

    factors = _concatenated([deltas for _, deltas in read_terms(terms, base)]) or _zeros(base)
    rank = max(a.shape[0] for a, _ in factors.values())
    target.mkdir(parents=True)
    tensors = {}
    for module, (a, b) in factors.items():
        # Zeros bring all layers to one rank and change nothing.
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = pad(a, (0, 0, 0, rank - len(a)))
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = pad(b, (0, rank - len(a)))
    save_file(tensors, target / WEIGHTS_FILE)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({module.rpartition(".")[2] for module in factors}),
    }
    (target / CONFIG_FILE).write_text(json.dumps(config))
    return rank


def adaptable_modules(base: BaseModel) -> dict[str, tuple[int, int]]:
    """The linear layers that an adapter may change, all but the output embedding: name -> (inputs, outputs)."""
    from torch import nn

    head = base.model.get_output_embeddings()
    return {
        name: (module.in_features, module.out_features)
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }


def _concatenated(adapters: Sequence[dict[str, LowRank]]) -> "dict[str, tuple[torch.Tensor, torch.Tensor]]":
    import torch

    factors = {}
    for module in sorted({module for adapter in adapters for module in adapter}):
        deltas = [adapter[module] for adapter in adapters if module in adapter]
        factors[module] = (
            torch.cat([delta.a for delta in deltas]),
            torch.cat([delta.scale * delta.b for delta in deltas], dim=1),
        )
    return factors


def _zeros(base: BaseModel) -> "dict[str, tuple[torch.Tensor, torch.Tensor]]":
    import torch

    return {
        module: (torch.zeros(1, inputs), torch.zeros(outputs, 1))
        for module, (inputs, outputs) in adaptable_modules(base).items()
    }
