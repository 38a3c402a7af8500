"""One model in the processes of `accelerate launch`: each holds a share of the frozen weights and the whole adapter.

Fully sharded data parallelism, as PyTorch's `fully_shard` has it (FSDP2), on GPUs and on CPUs. The adapter is small: whole
in every process, it is initialised, measured and saved as in one process, and the Trainer averages its gradients.
"""

import os
from typing import TYPE_CHECKING

from ct_pipeline.models.loading import BaseModel, default_device
from ct_pipeline.settings.environment import launched_processes
from ct_pipeline.training.internal_states import decoder_of

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

FSDP_CONFIG = "fsdp.yaml"
"""The configuration for `accelerate launch`, beside this file."""


def compute_device(base: BaseModel) -> "torch.device":
    """Where a model in training computes: where the base is, or this process's own device in a launch."""
    return base.device if launched_processes() == 1 else _joined().device


def placed(model: "torch.nn.Module") -> "torch.nn.Module":
    """The model ready to compute: as it is in one process; in a launch, its frozen weights sharded over the processes.

    Every process of the launch must come here with the same models in the same order, and call them as often: each layer's
    weights are gathered while it computes. Tensors shared with other models stay whole and where they are there.

    Raises:
        ValueError: a model without a list of decoder layers.
    """
    if launched_processes() == 1:
        return model
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    state = _joined()
    told = FullyShardedDataParallelPlugin(fsdp_version=2)
    _own_tensors(model)
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for parameter in trained:
        parameter.data = parameter.data.to(state.device)
    options = {
        "mesh": init_device_mesh(state.device.type, (state.num_processes,)),
        "offload_policy": told.cpu_offload,
        "ignored_params": trained,
    }
    *inner, last = decoder_of(model).layers
    for layer in inner:
        fully_shard(layer, reshard_after_forward=told.reshard_after_forward, **options)
    # Gradients may enter the last layer at states within it, and not by its output, which would gather its weights again.
    fully_shard(last, reshard_after_forward=False, **options)
    fully_shard(model, **options)
    return model


def _joined() -> "PartialState":
    """This process as a member of the launch; its process group is made at the first call."""
    from accelerate import PartialState

    # What is sharded here must not be sharded by the Trainer again.
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    return PartialState(cpu=default_device() == "cpu")


def _own_tensors(model: "torch.nn.Module") -> None:
    """Gives a model its own handles of frozen weights and buffers: sharding moves those it finds to the device."""
    from torch import nn

    # By the old ones themselves and not by their ids: tied weights stay tied, and no id is given away meanwhile.
    own: dict[torch.Tensor, torch.Tensor] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and not parameter.requires_grad:
                own.setdefault(parameter, nn.Parameter(parameter.data, requires_grad=False))
                module._parameters[name] = own[parameter]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = own.setdefault(buffer, buffer.detach())
