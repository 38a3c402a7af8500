"""What makes the training of an adapter faster where the model is so small that its bookkeeping is what takes time."""

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import Linear

SMALL = 20_000_000
"""Numbers in a model that is small here."""


@contextmanager
def small_model(model: "PeftModel") -> Iterator[None]:
    """Inside, a small model trains faster; what it computes is the same to rounding. Other models stay as they are.

    Args:
        model: one adapter on frozen weights; put into training mode.
    """
    if sum(parameter.numel() for parameter in model.parameters()) > SMALL:
        yield
        return
    with _added_before_multiplied(model), _walked_once(model), _no_garbage_collected():
        yield


@contextmanager
def _no_garbage_collected() -> Iterator[None]:
    """A trainer collects garbage at its start, which takes a quarter of a second with all imported modules to look at."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _walked_once(model: "PeftModel") -> Iterator[None]:
    """Answers the questions that a trainer puts to all modules at every step from what only the adapter can change."""
    trained = [p for p in model.parameters() if p.requires_grad]
    modules = list(model.modules())

    def train(mode: bool = True) -> "PeftModel":
        if model.training != mode:
            for module in modules:
                module.__dict__["training"] = mode
        return model

    # From here on all modules are in the mode of the first.
    model.train()
    model.train = train
    # Clipping and the clearing of gradients concern parameters that have some.
    model.parameters = lambda recurse=True: iter(trained)
    try:
        yield
    finally:
        del model.train, model.parameters


@contextmanager
def _added_before_multiplied(model: "PeftModel") -> Iterator[None]:
    """Lets each adapted layer compute x (W + s B A)ᵀ in place of x Wᵀ + s (x Aᵀ) Bᵀ: the same, with fewer products.

    On a CPU with small layers, thin products cost as much as full ones: a fifth of a run's time. Dropout, which acts on
    x between the two, and half precision, in which W would swallow a small B A, exclude it.
    """
    from peft.tuners.lora import Linear

    with ExitStack() as stack:
        for layer in (module for module in model.modules() if isinstance(module, Linear)):
            if _can_add(layer):
                layer.forward = _adding(layer)
                stack.callback(delattr, layer, "forward")
        yield


def _can_add(layer: "Linear") -> bool:
    import torch
    from torch import nn

    weight = layer.base_layer.weight
    plain = all(isinstance(dropout, nn.Identity) for dropout in layer.lora_dropout.values())
    return plain and weight.dtype == torch.float32 and weight.device.type == "cpu"


def _adding(layer: "Linear"):
    import torch
    from torch.nn import functional

    plain = layer.forward

    def forward(x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        if layer.disable_adapters:
            return plain(x, *args, **kwargs)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        weight = torch.addmm(layer.base_layer.weight, b, a, alpha=layer.scaling["default"])
        return functional.linear(x, weight, layer.base_layer.bias)

    return forward
