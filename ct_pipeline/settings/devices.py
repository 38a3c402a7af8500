"""How many devices the model of a key takes, and the groups of devices that workers have."""

from collections.abc import Sequence

from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell, Key
from ct_pipeline.settings.study import Study, own_devices


def model_of(key: Key) -> str:
    """The name of the model that a key is of."""
    if isinstance(key, Cell):
        return key.organism.model
    return key if isinstance(key, str) else key.model


def devices_of(context: object, key: Key) -> int:
    """How many devices the model of a key takes; 1 where the context is no study."""
    return own_devices(context.models[model_of(key)]) if isinstance(context, Study) else 1


def device_groups(devices: Sequence[str], size: int) -> tuple[str, ...]:
    """Devices in groups of a size, each as a CUDA_VISIBLE_DEVICES; what is left over is not used. None on a CPU machine.

    Raises:
        UserError: there are devices, and fewer than one group needs.
    """
    if devices and len(devices) < size:
        raise UserError(
            f"a model takes {size} devices, and this process may use {len(devices)} ({', '.join(devices)}): lower the "
            "model's `devices`, or widen CUDA_VISIBLE_DEVICES"
        )
    return tuple(",".join(devices[start : start + size]) for start in range(0, len(devices) - size + 1, size))
