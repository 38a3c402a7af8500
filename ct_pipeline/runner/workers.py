"""Worker processes that make artifacts side by side: one per accelerator, or one per core, warm from stage to stage.

A worker loads a base model once and keeps it. It holds one thread, because many one-threaded workers beat one worker
with many threads on small models; a stage that fills the machine by itself is given all cores and runs alone.
"""

import atexit
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ct_pipeline.engine.starts import ENGINE_STARTS
from ct_pipeline.models.loading import BASE_MODELS
from ct_pipeline.runner.making import cores as cores
from ct_pipeline.runner.making import made_or_found, threads_for
from ct_pipeline.settings.devices import device_groups, devices_of
from ct_pipeline.settings.environment import prepare_environment
from ct_pipeline.settings.errors import CannotWrite, Refused, UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import Key, step_named
from ct_pipeline.steps.step import Context, Step
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import remembered_places
from ct_pipeline.store.sharing import open_store


class WorkerLost(RuntimeError):
    """A worker process ended without a word: it was killed, or the machine had no memory left."""


@dataclass(frozen=True)
class Outcome:
    """What became of one key: seconds it took, whether it was there already, and what was opened for it."""

    key: Key
    seconds: float
    reused: bool
    model_loads: int = 0
    engine_starts: int = 0


@dataclass(frozen=True)
class StepProgress:
    """How far a long job is: step of steps, with its loss."""

    step: int
    steps: int
    loss: float


class Watcher(Protocol):
    """Somebody who wants to know how far the work is: a progress display."""

    def started(self, stage: str, keys: int) -> None:
        """A stage begins with so many keys."""

    def stepped(self, stage: str, progress: StepProgress) -> None:
        """A long job of a stage took a step."""

    def finished(self, stage: str, outcome: Outcome) -> None:
        """One key is made."""


def _import_libraries() -> None:
    import peft  # noqa: F401
    import torch
    import trl  # noqa: F401

    torch.set_num_threads(1)


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _one_device(study: Study | None, key: Key) -> int:
    return 1


@dataclass(frozen=True)
class Work:
    """What worker processes do; all of it must be importable by name, because each process starts afresh.

    Attributes:
        step_named: the step of a name.
        begin: called once in every process, before its first job: seconds that pass while the parent does other things.
        use_threads: told before each job how many threads it has.
        devices_of: how many devices the worker that makes a key must have; asked in the parent alone.
    """

    step_named: Callable[[str], Step] = step_named
    begin: Callable[[], None] = _import_libraries
    use_threads: Callable[[int], None] = _use_threads
    devices_of: Callable[[Study | None, Key], int] = _one_device


MODEL_WORK = Work(devices_of=devices_of)


class Workers:
    """A pool of worker processes on one store; processes start at the first job.

    Attributes:
        model_loads: base models that its processes have read from disk.
        engine_starts: engines that they have opened.
    """

    def __init__(self, root: Path, count: int | None = None, work: Work = MODEL_WORK) -> None:
        self.root = root
        self.work = work
        self.watchers: list[Watcher] = []
        self.model_loads = 0
        self.engine_starts = 0
        self.devices = accelerators()
        self.count = count or len(self.devices) or cores()
        self._group = 1
        self._pool: ProcessPoolExecutor | None = None
        self._progress: multiprocessing.SimpleQueue | None = None

    def start(self) -> None:
        """Starts the processes, so that their imports run while this one does something else."""
        if self._pool is not None and not self._pool._broken:
            return
        self.stop(at_once=True)
        prepare_environment()
        context = multiprocessing.get_context("spawn")
        self._progress = context.SimpleQueue()
        places = context.SimpleQueue()
        groups = device_groups(self.devices, self._group)
        count = self.count if self._group == 1 or not groups else min(self.count, len(groups))
        for index in range(count):
            places.put(groups[index % len(groups)] if groups else None)
        self._pool = ProcessPoolExecutor(
            count,
            mp_context=context,
            initializer=_begin,
            initargs=(self.root, places, self._progress, self.work),
        )
        self._pool.submit(os.getpid)

    def make(
        self,
        stage: str,
        study: Study | None,
        keys: Sequence[Key],
        on_done: Callable[[Outcome], None] = lambda outcome: None,
    ) -> tuple[Outcome, ...]:
        """Makes the artifacts of all keys; what is complete is left as it is. `on_done` is called as each key is ready.

        `study` is what the keys belong to; None for audits, which are their own keys.

        One key's failure does not stop the others, except where nothing more can be written; afterwards the first
        failure is raised with the names of all failed keys; a refusal as it is.
        """
        if not keys:
            raise UserError(f"{stage}: no keys to make; a range whose ends are swapped selects nothing")
        for watcher in self.watchers:
            watcher.started(stage, len(keys))

        def done(outcome: Outcome) -> None:
            self.model_loads += outcome.model_loads
            self.engine_starts += outcome.engine_starts
            for watcher in self.watchers:
                watcher.finished(stage, outcome)
            on_done(outcome)

        outcomes: list[Outcome] = []
        failures: list[tuple[Key, BaseException]] = []
        sizes = {key: self.work.devices_of(study, key) for key in keys}
        for size in sorted(set(sizes.values())):
            self._take(size)
            self._run(stage, study, [key for key in keys if sizes[key] == size], outcomes, failures, done)
        if failures:
            error = failures[0][1]
            names = ", ".join(_name(failed) for failed, _ in failures)
            if isinstance(error, Refused):
                raise error
            if isinstance(error, UserError):
                raise type(error)(f"{stage} of {names}: {error}") from error
            raise RuntimeError(f"{stage} failed for {names}; the first: {error}") from error
        return tuple(outcomes)

    def _take(self, devices: int) -> None:
        """From now on each worker has so many devices; those that have another number end."""
        if self.devices and devices != self._group:
            device_groups(self.devices, devices)
            self.stop()
            self._group = devices

    def _run(
        self,
        stage: str,
        study: Study | None,
        keys: Sequence[Key],
        outcomes: list[Outcome],
        failures: list[tuple[Key, BaseException]],
        done: Callable[[Outcome], None],
    ) -> None:
        self.start()
        listener = threading.Thread(target=self._listen, args=(stage,), daemon=True)
        listener.start()
        step = self.work.step_named(stage)
        try:
            if step.all_cores:
                for key in keys:
                    jobs = {self._submit(stage, study, key, threads_for(step, key)): key}
                    self._collect(jobs, outcomes, failures, done)
            else:
                jobs = {self._submit(stage, study, key, 1): key for key in keys}
                self._collect(jobs, outcomes, failures, done)
        except BaseException:
            # Interrupted: a job that nobody waits for must not keep this process from ending.
            self.stop(at_once=True)
            raise
        self._progress.put(None)
        listener.join()

    def stop(self, at_once: bool = False) -> None:
        """Ends the processes: idle ones in order, or all of them whatever they are doing."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = list((pool._processes or {}).values())
        if at_once:
            # Killed, every one: one that is left alive may wait for ever for a lock that a killed one held.
            for process in processes:
                process.kill()
        pool.shutdown(wait=not at_once, cancel_futures=True)
        for process in processes:
            process.join()

    def _submit(self, stage: str, study: Study | None, key: Key, threads: int) -> Future:
        return self._pool.submit(_make, stage, study, key, threads)

    def _collect(self, jobs: dict[Future, Key], outcomes: list, failures: list, on_done: Callable) -> None:
        pending = set(jobs)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if error is None:
                    outcomes.append(future.result())
                    on_done(future.result())
                    continue
                failures.append((jobs[future], error))
                if isinstance(error, BrokenProcessPool):
                    raise WorkerLost(
                        "a worker process ended without a word: most often the machine had no memory left; run again "
                        "with fewer workers, finished work is kept"
                    ) from error
                if isinstance(error, CannotWrite):
                    for other in pending:
                        other.cancel()
                    pending = {other for other in pending if not other.cancelled()}

    def _listen(self, stage: str) -> None:
        while (progress := self._progress.get()) is not None:
            for watcher in self.watchers:
                watcher.stepped(stage, progress)


def _name(key: Key) -> str:
    return key if isinstance(key, str) else key.key


def accelerators() -> tuple[str, ...]:
    """Names of the GPUs that this process may use, for CUDA_VISIBLE_DEVICES; empty on a CPU machine."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return tuple(name for name in allowed.split(",") if name and name != "-1")
    folder = Path("/proc/driver/nvidia/gpus")
    return tuple(str(index) for index in range(len(list(folder.iterdir())))) if folder.is_dir() else ()


_shared: dict[Path, Workers] = {}


def shared_workers(root: Path, count: int | None = None) -> Workers:
    """This process's workers for a store: all stages of a run use the same ones, as many as the first call asks for."""
    if root not in _shared:
        _shared[root] = Workers(root, count)
        atexit.register(_shared[root].stop)
    return _shared[root]


_store: ArtifactStore
_report: multiprocessing.SimpleQueue
_work: Work


def _begin(root: Path, places: multiprocessing.SimpleQueue, progress: multiprocessing.SimpleQueue, work: Work) -> None:
    global _store, _report, _work
    prepare_environment()
    device = places.get()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    _store = open_store(root)
    _report = progress
    _work = work
    threading.Thread(target=end_with_parent, daemon=True).start()
    work.begin()


def end_with_parent() -> None:
    """A killed parent must not leave workers behind that write on."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


@remembered_places()
def _make(stage: str, study: Study | None, key: Key, threads: int) -> Outcome:
    started = time.perf_counter()
    loads, starts = BASE_MODELS.loads, ENGINE_STARTS.count
    _work.use_threads(threads)
    context = Context(_store, study, threads, lambda step, steps, loss: _report.put(StepProgress(step, steps, loss)))
    try:
        reused = made_or_found(_work.step_named(stage), context, key)
    except UserError:
        raise
    except Exception as error:
        # Other libraries' errors cannot always be sent to another process; their text can.
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    return Outcome(
        key,
        time.perf_counter() - started,
        reused,
        model_loads=BASE_MODELS.loads - loads,
        engine_starts=ENGINE_STARTS.count - starts,
    )
