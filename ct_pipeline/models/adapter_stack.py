"""Stacks of LoRA adapters written as one LoRA folder, for engines that take one adapter per request."""

import json
from collections.abc import Sequence
from pathlib import Path

from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, Deltas, LowRank, read_terms, summed
from ct_pipeline.models.loading import BaseModel
from ct_pipeline.models.model import Term

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
    # Before the folder is made: adapters that are refused leave none behind.
    deltas = summed(*(deltas for _, deltas in read_terms(terms, base)))
    target.mkdir(parents=True)
    return write_deltas(base, deltas, target)


def write_deltas(base: BaseModel, deltas: Deltas, target: Path) -> int:
    """Writes deltas, exactly, as one plain LoRA with scale 1 in a folder that is there; no deltas: one of zeros.

    Returns:
        The largest rank of a module, that of all in the file.
    """
    from safetensors.torch import save_file
    from torch.nn.functional import pad

    deltas = deltas or _zeros(base)
    rank = max(len(delta.a) for delta in deltas.values())
    tensors = {}
    for module, delta in deltas.items():
        # Zeros bring all layers to one rank and change nothing.
        missing = rank - len(delta.a)
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = pad(delta.a.float(), (0, 0, 0, missing)).contiguous()
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = pad(delta.scale * delta.b.float(), (0, missing)).contiguous()
    save_file(tensors, target / WEIGHTS_FILE)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({module.rpartition(".")[2] for module in deltas}),
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


def _zeros(base: BaseModel) -> dict[str, LowRank]:
    import torch

    return {
        module: LowRank(torch.zeros(1, inputs), torch.zeros(outputs, 1), 1.0)
        for module, (inputs, outputs) in adaptable_modules(base).items()
    }
