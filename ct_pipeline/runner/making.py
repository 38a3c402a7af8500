"""One key of one step: look whether it is there, and make what is missing. Whoever runs a step comes through here."""

import os
from typing import Any

from ct_pipeline.settings.devices import devices_of, model_of
from ct_pipeline.settings.environment import launched_processes, step_cores
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import base_model
from ct_pipeline.steps.step import Context, Step


def made_or_found(step: Step, context: Context, key: Any) -> bool:
    """Makes what a key of a step lacks; returns whether nothing was lacking.

    Raises:
        UserError: what a person can mend; of an audit also what an engine or a model says of wrong inputs.
        RuntimeError: the key is to be trained by several processes, and this is one alone.
    """
    if step.find(context.store, context.study, key) is not None:
        return True
    if step.trains(context.study, key):
        _require_all_processes(context, key)
    if step.grain == "audit" and key.base_node is not None:
        # Pretrained once, with all cores, for all that stands on it.
        base = Context(context.store, key.study, cores(), context.progress)
        made_or_found(base_model.STEP, base, key.audit.base_model.model)
    try:
        step.make(context, key)
    except UserError:
        raise
    except ValueError as error:
        if step.grain != "audit":
            raise
        raise UserError(f"audit {key.key}, {step.name}: {error}") from error
    return False


def _require_all_processes(context: Context, key: Any) -> None:
    together, devices = launched_processes(), devices_of(context.study, key)
    if together != devices:
        raise RuntimeError(
            f"{model_of(key)} is trained by {devices} processes together, and here are {together}: materialize the "
            "asset of the step, which launches them"
        )


def threads_for(step: Step, key: Any) -> int:
    """Threads for a key: all cores where it fills the machine, one where many one-threaded workers are faster.

    A model of the tiny world takes one, also in an audit: two on a busy machine take thirty times as long.
    """
    if not step.all_cores or (step.grain == "audit" and key.base_node is not None):
        return 1
    return cores()


def cores() -> int:
    """Cores that this process may compute on: those of its step, else the machine's."""
    return step_cores() or os.cpu_count() or 1
