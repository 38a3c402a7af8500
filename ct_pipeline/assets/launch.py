"""Training of a model that takes several devices: `accelerate launch`, one process per device, through Dagster Pipes.

The processes run `assets.launched`. What they hold would not fit beside it, so the worker processes end first.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster_pipes import PipesParams

from ct_pipeline.assets import launched
from ct_pipeline.assets.launched import Failure
from ct_pipeline.partitions import partition_key
from ct_pipeline.runner.workers import Outcome, StepProgress, Workers, accelerators, cores
from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.settings.devices import device_groups, devices_of
from ct_pipeline.settings.environment import fsdp_config
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import Key
from ct_pipeline.steps.step import Step
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.training import sharding
from ct_pipeline.training.batches import cut_after

OnStep = Callable[[StepProgress], None]
_SHOWN_LINES = 20


def is_launched(step: Step, study: Study, key: Key) -> bool:
    """Whether a key is trained by a launch, and not by a worker."""
    return step.trains(study, key) and devices_of(study, key) > 1


def make_launched(
    context: dg.AssetExecutionContext,
    step: Step,
    study: Study,
    keys: Sequence[Key],
    store: ArtifactStore,
    workers: Workers,
    on_done: Callable[[Outcome], None],
) -> None:
    """Makes keys one after another, each by a launch of its own; what is complete is left as it is.

    Raises:
        UserError: what a person can mend: too few devices, too little memory, a batch that cannot be divided.
        RuntimeError: training failed otherwise; the message ends with what was printed last.
    """
    workers.stop()
    for watcher in workers.watchers:
        watcher.started(step.name, len(keys))

    def stepped(progress: StepProgress) -> None:
        for watcher in workers.watchers:
            watcher.stepped(step.name, progress)

    for key in keys:
        started = time.perf_counter()
        found = step.find(store, study, key)
        if found is None:
            _launch_until_it_fits(context, step, study, key, store, stepped)
        loads = 0 if found else devices_of(study, key)
        outcome = Outcome(key, time.perf_counter() - started, found is not None, model_loads=loads)
        for watcher in workers.watchers:
            watcher.finished(step.name, outcome)
        on_done(outcome)


def _launch_until_it_fits(
    context: dg.AssetExecutionContext, step: Step, study: Study, key: Key, store: ArtifactStore, on_step: OnStep
) -> None:
    settings, devices = _settings(study, key), devices_of(study, key)
    too_large: list[int] = []
    while True:
        cut = cut_after(settings, devices, too_large)
        failure = _launch(context, step, study, key, store, too_large, on_step)
        if failure is None:
            return
        if not failure.out_of_memory:
            break
        too_large.append(cut.micro_batch)
        context.log.warning(f"a device had no memory for a micro-batch of {cut.micro_batch} rows: starting anew")
    if failure.for_user:
        raise UserError(f"{step.name} of {partition_key(key)}: {failure.text}")
    raise RuntimeError(f"{step.name} failed for {partition_key(key)}: {failure.text}")


def _launch(
    context: dg.AssetExecutionContext,
    step: Step,
    study: Study,
    key: Key,
    store: ArtifactStore,
    too_large: Sequence[int],
    on_step: OnStep,
) -> Failure | None:
    devices = devices_of(study, key)
    groups = device_groups(accelerators(), devices)
    env = {"CUDA_VISIBLE_DEVICES": groups[0]} if groups else {}
    env["OMP_NUM_THREADS"] = str(max(1, cores() // devices))
    with tempfile.TemporaryDirectory(prefix="ct-pipeline-launch-") as scratch:
        log = Path(scratch) / "printed.log"
        task = launched.Task(
            stage=step.name,
            partition=str(partition_key(key)),
            root=str(store.root),
            fingerprint=step.places(study, key)[0].fingerprint,
            too_large=tuple(too_large),
            scratch=scratch,
            parent=os.getpid(),
        )
        try:
            # The shell only sends what the processes print to a file: a pipe that nobody reads would fill up.
            dg.PipesSubprocessClient(message_reader=_StepReader(on_step)).run(
                context=context,
                command=["sh", "-c", 'exec "$@" >"$0" 2>&1', str(log), *_command(devices), task.as_argument()],
                env=env,
            )
        except dg.DagsterExecutionInterruptedError:
            raise
        except dg.DagsterError:
            printed = log.read_text(errors="replace").splitlines() if log.exists() else []
            return launched.first_failure(Path(scratch)) or Failure("\n".join(printed[-_SHOWN_LINES:]))
    if step.find(store, study, key) is None:
        raise RuntimeError(f"{step.name} of {partition_key(key)}: the launch ended without an artifact")
    return None


def _command(devices: int) -> list[str]:
    shipped = Path(sharding.__file__).with_name(sharding.FSDP_CONFIG)
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(fsdp_config() or shipped)]
    return [*launcher, "--num_processes", str(devices), "--main_process_port", "0", "-m", launched.__name__]


def _settings(study: Study, key: Key) -> TrainingSettings:
    return study.training_of(key.method) if isinstance(key, Cell) else study.induction.training


class _StepReader(dg.PipesTempFileMessageReader):
    """Reads a launch's messages, and tells of each step as it comes."""

    def __init__(self, on_step: OnStep) -> None:
        super().__init__()
        self._on_step = on_step

    @contextmanager
    def read_messages(self, handler: object) -> Iterator[PipesParams]:
        """Yields what tells the processes where to write."""
        handle = handler.handle_message

        def told(message: dict) -> None:
            if message["method"] == "report_custom_message" and "step" in message["params"]["payload"]:
                self._on_step(StepProgress(**message["params"]["payload"]))
            handle(message)

        handler.handle_message = told
        with super().read_messages(handler) as params:
            yield params
