"""How an effective batch is cut into micro-batches: over passes and processes, and smaller where memory does not suffice."""

import dataclasses
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.settings.environment import launched_processes
from ct_pipeline.settings.errors import UserError
from ct_pipeline.training.examples import TrainingRecord

_failed: ContextVar[tuple[int, ...]] = ContextVar("micro-batches that were too large", default=())


@dataclass(frozen=True)
class Cut:
    """Rows of one pass in one process, passes of one optimizer step, and processes; their product is the effective batch."""

    micro_batch: int
    accumulation: int
    processes: int = 1

    def steps(self, rows: int) -> int:
        """How many optimizer steps one pass over so many rows takes."""
        return -(-rows // (self.micro_batch * self.accumulation * self.processes))


def cut_of(settings: TrainingSettings, processes: int = 1, largest: int | None = None) -> Cut:
    """Cuts a study's effective batch, micro_batch x accumulation, for some processes.

    Args:
        settings: their micro_batch is the most that a process takes at once.
        processes: that train together.
        largest: a smaller bound on micro-batches; at least 1.

    Raises:
        UserError: the processes do not divide the effective batch.
    """
    effective = settings.micro_batch * settings.accumulation
    share, rest = divmod(effective, processes)
    if rest:
        raise UserError(
            f"the effective batch of {effective} rows (micro_batch {settings.micro_batch} x accumulation "
            f"{settings.accumulation}) cannot be divided by {processes} processes: change `accumulation`, or the model's "
            "`devices`, so that it can"
        )
    bound = min(settings.micro_batch, largest or settings.micro_batch, share)
    micro_batch = max(size for size in range(1, bound + 1) if share % size == 0)
    return Cut(micro_batch, share // micro_batch, processes)


@contextmanager
def after_failures(sizes: Sequence[int]) -> Iterator[None]:
    """Inside, a training begins as if micro-batches of these sizes, the smallest last, had been too large already."""
    token = _failed.set(tuple(sizes))
    try:
        yield
    finally:
        _failed.reset(token)


def within_memory(settings: TrainingSettings, train: Callable[[Cut], TrainingRecord]) -> TrainingRecord:
    """Trains; where the device has no memory for a micro-batch, from the start again with half of it and twice the passes.

    The effective batch, the rows in it and all seeds stay, so the losses do, to rounding. In a launch the error is passed
    on, because the other processes wait for this one: all of them are to be started anew under `after_failures`.

    Args:
        settings: of the run.
        train: runs it from its seeded start.

    Returns:
        Its record, with the cut and the micro-batches that were too large.

    Raises:
        UserError: there is no memory for a single row, or the batch cannot be cut.
    """
    import torch

    processes, failed = launched_processes(), [*_failed.get()]
    while True:
        cut = cut_after(settings, processes, failed)
        try:
            done = train(cut)
            return dataclasses.replace(done, **dataclasses.asdict(cut), out_of_memory=tuple(failed))
        except torch.OutOfMemoryError:
            if processes > 1:
                raise
            failed.append(cut.micro_batch)
        # Outside the handler: the error holds all tensors of the run.
        gc.collect()
        torch.cuda.empty_cache()


def cut_after(settings: TrainingSettings, processes: int, failed: Sequence[int]) -> Cut:
    """The cut to try after micro-batches of some sizes, the smallest last, were too large for the device's memory.

    Raises:
        UserError: the last had one row already, or the processes do not divide the effective batch.
    """
    if not failed:
        return cut_of(settings, processes)
    if failed[-1] == 1:
        raise UserError(
            "the device has no memory to train on a single row at a time: give the model more `devices`, lower `lora.rank`, "
            "shorten the rows, or take a smaller model"
        )
    return cut_of(settings, processes, failed[-1] // 2)


class ShareOfRows:
    """This process's micro-batches: of each effective batch the same rows as in one process, dealt out in turn.

    Every process has as many micro-batches as every other; where the last rows do not suffice, some are empty.
    """

    def __init__(self, rows: int, cut: Cut, seed: int, process: int) -> None:
        """Takes the number of rows, the row order's seed, and which process this is, from 0."""
        self._rows, self._cut, self._seed, self._process = rows, cut, seed, process
        self._epoch = 0

    def __len__(self) -> int:
        """Micro-batches of one pass over the rows."""
        return len(self._dealt(range(self._rows)))

    def __iter__(self) -> Iterator[list[int]]:
        """Those of the next pass, as lists of row numbers."""
        import torch

        # The order of accelerate's SeedableRandomSampler, which a Trainer has in one process.
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        self._epoch += 1
        return iter(self._dealt(torch.randperm(self._rows, generator=generator).tolist()))

    def _dealt(self, order: Sequence[int]) -> list[list[int]]:
        size = self._cut.micro_batch
        turn = size * self._cut.processes
        starts = [start + self._process * size for start in range(0, len(order), turn)]
        return [list(order[start : start + size]) for start in starts]
