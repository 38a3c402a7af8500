"""LoRA adapter folders: checked, read, and added to a base model whose own weights stay as they are."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.models.loading import BaseModel
from ct_pipeline.models.model import Term, active
from ct_pipeline.models.quarantine.adapter_check import CONFIG_FILE as CONFIG_FILE
from ct_pipeline.models.quarantine.adapter_check import PREFIX, misfits, read_adapter_files, scale_of
from ct_pipeline.models.quarantine.adapter_check import WEIGHTS_FILE as WEIGHTS_FILE
from ct_pipeline.settings.errors import Refused

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LowRank:
    """The delta of one linear layer: `scale` × `b` @ `a`; shapes (rank, inputs) and (outputs, rank), float32."""

    a: "torch.Tensor"
    b: "torch.Tensor"
    scale: float

    def times(self, weight: float) -> "LowRank":
        """The delta times a weight; it shares its factors with this one."""
        return replace(self, scale=weight * self.scale)


Deltas = Mapping[str, LowRank]
"""Module name in the base model -> what is added to its weight."""


def summed(*parts: Deltas) -> dict[str, LowRank]:
    """The exact sum of deltas: their factors side by side, every scale multiplied into its second factor."""
    import torch

    found = {}
    for module in sorted({module for part in parts for module in part}):
        deltas = [part[module] for part in parts if module in part]
        b = torch.cat([delta.scale * delta.b for delta in deltas], dim=1)
        found[module] = LowRank(torch.cat([delta.a for delta in deltas]), b, 1.0)
    return found


def weighted(deltas: Deltas, weight: float) -> dict[str, LowRank]:
    """Deltas times a weight."""
    return {module: delta.times(weight) for module, delta in deltas.items()}


def read_adapter(folder: Path, base: BaseModel) -> dict[str, LowRank]:
    """Reads a LoRA folder after checking that it holds plain low-rank deltas for this very base.

    Only `adapter_model.safetensors` and `adapter_config.json` are read, each once, and what is checked is what is used;
    the base model's name in the configuration is ignored.

    Returns:
        module name in the base model -> its delta.

    Raises:
        Refused: (a ValueError) with all that is wrong: a file is missing, a feature beyond plain LoRA is used, a header
            or a number is broken, or the shapes are those of another base.
    """
    from safetensors.torch import load

    files = read_adapter_files(folder)
    if refusals := files.refusals or misfits(files, linear_layers(base), base.name, folder, _head_name(base)):
        raise Refused(refusals)
    tensors = load(files.weights)
    deltas = {}
    for module in sorted(files.modules):
        a, b = (tensors[f"{PREFIX}{module}.lora_{factor}.weight"].float() for factor in "AB")
        deltas[module] = LowRank(a, b, scale_of(files.config, len(a), module))
    return deltas


def linear_layers(base: BaseModel) -> dict[str, tuple[int, int]]:
    """Every linear layer of a base, the output embedding too: name -> (inputs, outputs)."""
    from torch import nn

    return {
        name: (module.in_features, module.out_features)
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear)
    }


def _head_name(base: BaseModel) -> str | None:
    head = base.model.get_output_embeddings()
    return next((name for name, module in base.model.named_modules() if head is not None and module is head), None)


def read_terms(terms: Iterable[Term], base: BaseModel) -> list[tuple[Term, dict[str, LowRank]]]:
    """The deltas of the terms that add something, their weights multiplied into the scales; a folder is read once.

    Raises:
        Refused: as `read_adapter`.
    """
    kept = active(terms)
    read = {folder: read_adapter(folder, base) for folder in dict.fromkeys(term.adapter for term in kept)}
    return [(term, weighted(read[term.adapter], term.weight)) for term in kept]


def with_adapters(base: BaseModel, terms: Sequence[Term]) -> "PreTrainedModel":
    """Returns a model that computes base plus all weighted deltas and shares every unchanged weight with the base.

    In float32 the deltas are added into copies of the adapted weights. In half precision a small delta would vanish in
    the rounding of the sum, so it is kept apart there and added to each layer's output.

    Args:
        base: the loaded base; neither its weights nor its modules change.
        terms: adapters and their weights, deltas summed in this order; a term of weight 0 is left out, and without any
            other the copy computes exactly what the base does.
    """
    import torch

    stacks: dict[str, list[LowRank]] = {}
    for _, deltas in read_terms(terms, base):
        for module, delta in deltas.items():
            stacks.setdefault(module, []).append(delta)
    model = share_weights(base.model)
    modules = dict(model.named_modules())
    for name, deltas in stacks.items():
        layer = modules[name]
        if layer.weight.dtype == torch.float32:
            layer.weight = _added(layer.weight, deltas)
        else:
            layer.register_forward_hook(_low_rank_hook(deltas, layer.weight.device))
    return model


class RowAdapters:
    """A model that adds to each row of a batch the deltas of the row's own stack of adapters, kept apart from the base.

    Attributes:
        model: shares every weight with the base.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        """Takes the model whose layers ask for the chosen stacks."""
        self.model = model
        self._stacks: torch.Tensor | None = None

    def choose(self, stacks: "torch.Tensor") -> None:
        """Says which stack each row of the next forward passes has; shape (rows,)."""
        self._stacks = stacks

    def active(self, owners: "torch.Tensor", layer: str, inputs: "torch.Tensor") -> "torch.Tensor":
        """Which low-rank dimensions each row uses; shape (rows, 1, dimensions).

        Raises:
            ValueError: the inputs of a layer are not one sequence per row.
        """
        if self._stacks is None or inputs.dim() != 3 or len(inputs) != len(self._stacks):
            raise ValueError(
                f"{layer} sees no separate rows (its input has shape {tuple(inputs.shape)}), so adapters cannot be "
                'mixed in a batch: open the engine with mixing="merged"'
            )
        return (owners == self._stacks[:, None])[:, None]


def with_row_adapters(base: BaseModel, stacks: Sequence[Sequence[Term]]) -> RowAdapters:
    """Returns a model whose rows each have one of several stacks of adapters; a row of the empty stack is the base.

    All stacks' factors are multiplied in one go and the dimensions of other rows' adapters are set to zero in between,
    so the cost grows with the sum of the ranks, and a row without adapters gets exactly nothing added.

    Args:
        base: the loaded base; neither its weights nor its modules change.
        stacks: the stacks that `RowAdapters.choose` numbers.
    """
    found: dict[str, list[tuple[int, LowRank]]] = {}
    read = dict(read_terms(dict.fromkeys(term for stack in stacks for term in stack), base))
    for number, stack in enumerate(stacks):
        for term in active(stack):
            for module, delta in read[term].items():
                found.setdefault(module, []).append((number, delta))
    rows = RowAdapters(share_weights(base.model))
    modules = dict(rows.model.named_modules())
    for name, deltas in found.items():
        modules[name].register_forward_hook(_row_hook(rows, name, deltas, modules[name].weight.device))
    return rows


def share_weights(model: "PreTrainedModel") -> "PreTrainedModel":
    """Copies a model's structure while its parameters and buffers stay the same tensors."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def _added(weight: "torch.Tensor", deltas: Sequence[LowRank]) -> "torch.nn.Parameter":
    import torch

    merged = weight.detach().clone()
    for delta in deltas:
        merged += delta.scale * (delta.b.to(weight.device) @ delta.a.to(weight.device))
    return torch.nn.Parameter(merged, requires_grad=False)


def _factors(deltas: Sequence[LowRank], device: "torch.device") -> tuple["torch.Tensor", "torch.Tensor"]:
    import torch

    # Concatenated factors give the exact sum of the deltas.
    a = torch.cat([delta.a for delta in deltas]).to(device)
    return a, torch.cat([delta.scale * delta.b for delta in deltas], dim=1).to(device)


def _row_hook(
    rows: RowAdapters, name: str, deltas: Sequence[tuple[int, LowRank]], device: "torch.device"
) -> Callable[..., "torch.Tensor"]:
    import torch

    a, b = _factors([delta for _, delta in deltas], device)
    owners = torch.tensor([number for number, delta in deltas for _ in delta.a], device=device)

    def add(_layer: object, inputs: tuple, output: "torch.Tensor") -> "torch.Tensor":
        inner = (inputs[0].float() @ a.T) * rows.active(owners, name, inputs[0])
        return output + (inner @ b.T).to(output.dtype)

    return add


def _low_rank_hook(deltas: Sequence[LowRank], device: "torch.device") -> Callable[..., "torch.Tensor"]:
    a, b = _factors(deltas, device)

    def add(_layer: object, inputs: tuple, output: "torch.Tensor") -> "torch.Tensor":
        nonlocal a, b
        # A sharded model computes elsewhere than where its weights were read.
        a, b = a.to(output.device), b.to(output.device)
        return output + ((inputs[0].float() @ a.T) @ b.T).to(output.dtype)

    return add
