"""LoRA adapter folders: checked, read, and added to a base model whose own weights stay as they are."""

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.models.loading import BaseModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PREFIX = "base_model.model."

_READ_KEYS = frozenset({"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern"})
_HARMLESS_KEYS = frozenset(
    [
        "base_model_name_or_path",
        "revision",
        "task_type",
        "inference_mode",
        "target_modules",
        "exclude_modules",
        "lora_dropout",
        "layers_to_transform",
        "layers_pattern",
        "peft_version",
        "qalora_group_size",
        "corda_config",
        "eva_config",
        "loftq_config",
        "runtime_config",
        "ensure_weight_tying",
        "lora_ga_config",
    ]
)
_NEUTRAL_VALUES: dict[str, tuple[object, ...]] = {
    "bias": ("none",),
    "megatron_core": ("megatron.core",),
    # Other initialisations (pissa, olora, ...) also change the base weights, so the deltas alone would be wrong.
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),
}


@dataclass(frozen=True)
class LowRank:
    """The delta of one linear layer: `scale` × `b` @ `a`; shapes (rank, inputs) and (outputs, rank), float32."""

    a: "torch.Tensor"
    b: "torch.Tensor"
    scale: float


def read_adapter(folder: Path, base: BaseModel) -> dict[str, LowRank]:
    """Reads a LoRA folder after checking that it holds plain low-rank deltas for this very base.

    Only `adapter_model.safetensors` and `adapter_config.json` are read; the base model's name in the configuration is
    ignored.

    Returns:
        module name in the base model -> its delta.

    Raises:
        ValueError: a file is missing, a feature beyond plain LoRA is used, or the shapes are those of another base.
    """
    from safetensors.torch import load_file
    from torch import nn

    for name in (WEIGHTS_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} holds no {name}: an adapter is {WEIGHTS_FILE} and {CONFIG_FILE}, nothing else is read"
            )
    config = json.loads((folder / CONFIG_FILE).read_text())
    _check_config(config, folder)
    modules = dict(base.model.named_modules())
    head = base.model.get_output_embeddings()
    factors: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(folder / WEIGHTS_FILE).items():
        module, _, factor = key.removeprefix(_PREFIX).rpartition(".lora_")
        if factor not in ("A.weight", "B.weight") or not key.startswith(_PREFIX):
            raise ValueError(f"{folder}: tensor {key} is not a plain LoRA factor of a linear layer")
        factors.setdefault(module, {})[factor[0]] = tensor.float()
    deltas = {}
    for module, pair in sorted(factors.items()):
        layer = modules.get(module)
        if layer is head and head is not None:
            raise ValueError(
                f"{folder} changes the output embedding {module}: only adapters of inner layers are accepted"
            )
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{folder} is an adapter for another base: {base.name} has no linear layer {module}")
        if set(pair) != {"A", "B"}:
            raise ValueError(f"{folder}: {module} lacks one of its two LoRA factors")
        a, b = pair["A"], pair["B"]
        if a.shape[1] != layer.in_features or b.shape[0] != layer.out_features or a.shape[0] != b.shape[1]:
            raise ValueError(
                f"{folder} is an adapter for another base: {module} is {layer.in_features} -> {layer.out_features} in "
                f"{base.name}, the adapter has factors {tuple(a.shape)} and {tuple(b.shape)}"
            )
        rank = a.shape[0]
        deltas[module] = LowRank(a, b, config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank))
    if not deltas:
        raise ValueError(f"{folder} holds no LoRA factors")
    return deltas


def with_adapters(base: BaseModel, folders: Sequence[Path]) -> "PreTrainedModel":
    """Returns a model that computes base plus all deltas and shares every unchanged weight with the base.

    In float32 the deltas are added into copies of the adapted weights. In half precision a small delta would vanish in
    the rounding of the sum, so it is kept apart there and added to each layer's output.

    Args:
        base: the loaded base; neither its weights nor its modules change.
        folders: adapter folders, deltas summed; () gives a copy that computes exactly what the base does.
    """
    import torch

    stacks: dict[str, list[LowRank]] = {}
    for folder in folders:
        for module, delta in read_adapter(Path(folder), base).items():
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


def with_row_adapters(base: BaseModel, stacks: Sequence[Sequence[Path]]) -> RowAdapters:
    """Returns a model whose rows each have one of several stacks of adapters; a row of the empty stack is the base.

    All stacks' factors are multiplied in one go and the dimensions of other rows' adapters are set to zero in between,
    so the cost grows with the sum of the ranks, and a row without adapters gets exactly nothing added.

    Args:
        base: the loaded base; neither its weights nor its modules change.
        stacks: the stacks that `RowAdapters.choose` numbers.
    """
    found: dict[str, list[tuple[int, LowRank]]] = {}
    read = {folder: read_adapter(folder, base) for folder in dict.fromkeys(f for stack in stacks for f in stack)}
    for number, stack in enumerate(stacks):
        for folder in stack:
            for module, delta in read[folder].items():
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
        return output + ((inputs[0].float() @ a.T) @ b.T).to(output.dtype)

    return add


def _check_config(config: dict, folder: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{folder} is a {config.get('peft_type')} adapter; only LORA is accepted")
    for key, value in config.items():
        if key in _READ_KEYS or key in _HARMLESS_KEYS:
            continue
        if value and value not in _NEUTRAL_VALUES.get(key, ()):
            raise ValueError(f"{folder}/{CONFIG_FILE} uses {key} = {value!r}, which plain LoRA does not have")
