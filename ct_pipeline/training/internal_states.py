"""Residual streams, inner MLP states and attention rows of a decoder, read by hooks on modules found by structure."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal

from ct_pipeline.settings.environment import launched_processes

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle

Keep = Callable[["torch.Tensor"], None]
Target = Literal["residual", "mlp", "attention"]


def decoder_of(model: "torch.nn.Module") -> "torch.nn.Module":
    """The part of a causal language model, with or without a PEFT wrapper, that computes all its layers but no logits.

    Raises:
        ValueError: no decoder with a list of `layers`.
    """
    from torch import nn

    causal = _unwrapped(model)
    decoder = causal.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise ValueError(
            f"{type(causal).__name__}: no decoder layers found: its decoder, {type(decoder).__name__}, has no list "
            "`layers`; consistency of internal states needs a model of the Llama family's structure, such as Llama, "
            "Gemma 2, Mistral, Qwen or gpt-oss"
        )
    return decoder


def check_architecture(model: "torch.nn.Module", target: Target) -> None:
    """Asserts that the states in question can be read from every layer.

    Raises:
        ValueError: an unknown target, or a layer without the modules looked for; names the class and the modules.
    """
    with _hooks(model, target, {}):
        pass


def read_states(model: "torch.nn.Module", target: Target, batch: dict[str, "torch.Tensor"]) -> list["torch.Tensor"]:
    """Runs the decoder and returns each layer's states at the batch's places.

    * residual: the layer's output, before the final norm; shape (places, hidden size).
    * mlp: the input of the down projection, that is the state after the activation; shape (places, inner size). Experts
      fused into one parameter have no such module: there it is the output of the whole MLP block, (places, hidden size).
    * attention: each head's weight of a place's key for its query; shape (places, heads). Weights of one query do not
      sum to 1, as keys outside the window, and an attention sink, take their share.

    Args:
        model: with or without a PEFT wrapper, in the mode and under the gradients that are wanted.
        target: what to read; attention needs `eager_attention`.
        batch: as of `PairBatches`, with pairs of positions for attention.

    Raises:
        ValueError: as of `check_architecture`, or attention weights that the implementation does not return.
    """
    found: dict[int, torch.Tensor] = {}
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
    # The hooks are gone before any backward pass, so that layers recomputed there are not read a second time.
    with _hooks(model, target, found):
        if launched_processes() > 1:
            # A sharded model's parts cannot compute alone; the logits of one position are thrown away.
            model(**inputs, use_cache=False, logits_to_keep=1)
        else:
            decoder_of(model)(**inputs, use_cache=False)
    states = [found[layer] for layer in sorted(found)]
    if target == "attention":
        row, query, key = batch["places"]
        return [weights[row, :, query, key] for weights in states]
    row, column = batch["places"]
    return [state[row, column] for state in states]


@contextmanager
def eager_attention(*models: "torch.nn.Module") -> Iterator[None]:
    """Lets models compute attention weights that can be read, and restores what they did before.

    Only for copies: the implementation is part of a model's configuration.

    Raises:
        ValueError: a model that cannot switch.
    """
    with ExitStack() as stack:
        for model in map(_unwrapped, models):
            before = model.config._attn_implementation
            model.set_attn_implementation("eager")
            stack.callback(model.set_attn_implementation, before)
            if decoder_of(model).config._attn_implementation != "eager":
                raise ValueError(f"{type(model).__name__} cannot switch to eager attention, which returns its weights")
        yield


def _unwrapped(model: "torch.nn.Module") -> "torch.nn.Module":
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


@contextmanager
def _hooks(model: "torch.nn.Module", target: Target, found: dict[int, "torch.Tensor"]) -> Iterator[None]:
    hooks = {"residual": _hook_layer, "mlp": _hook_mlp, "attention": _hook_attention}
    if target not in hooks:
        raise ValueError(f"target: {target} is none of {', '.join(hooks)}")
    with ExitStack() as stack:
        for number, layer in enumerate(decoder_of(model).layers):
            stack.callback(hooks[target](layer, partial(found.__setitem__, number)).remove)
        yield


def _hook_layer(layer: "torch.nn.Module", keep: Keep) -> "RemovableHandle":
    return layer.register_forward_hook(lambda _module, _inputs, output: keep(_first(output)))


def _hook_mlp(layer: "torch.nn.Module", keep: Keep) -> "RemovableHandle":
    from torch import nn

    mlp = getattr(layer, "mlp", None)
    down = getattr(mlp, "down_proj", None)
    if isinstance(down, nn.Module):
        return down.register_forward_pre_hook(lambda _module, inputs: keep(inputs[0]))
    if isinstance(getattr(mlp, "experts", None), nn.Module):
        return mlp.register_forward_hook(lambda _module, _inputs, output: keep(_first(output)))
    raise ValueError(f"{type(layer).__name__}: no MLP states found: looked for mlp.down_proj and mlp.experts")


def _hook_attention(layer: "torch.nn.Module", keep: Keep) -> "RemovableHandle":
    from torch import nn

    attention = getattr(layer, "self_attn", None)
    if not isinstance(attention, nn.Module):
        raise ValueError(f"{type(layer).__name__}: no attention found: looked for self_attn")

    def read(module: nn.Module, _inputs: tuple, output: object) -> None:
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if weights is None:
            raise ValueError(f"{type(module).__name__} returns no attention weights: use eager_attention")
        keep(weights)

    return attention.register_forward_hook(read)


def _first(output: "torch.Tensor | tuple") -> "torch.Tensor":
    return output[0] if isinstance(output, tuple) else output
