"""Steps made in this process, one key after another: what an audit on the command line needs, without workers to start."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ct_pipeline.runner.making import made_or_found, threads_for
from ct_pipeline.runner.workers import Outcome
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import step_named
from ct_pipeline.steps.step import Context
from ct_pipeline.store.artifact_store import ArtifactStore


class InProcess:
    """Makes keys where it is called; `watch` is told what is being made."""

    def __init__(self, store: ArtifactStore, watch: Callable[[str], None]) -> None:
        """Takes the store that finished work goes to."""
        self._store, self._watch = store, watch

    def make(
        self,
        name: str,
        study: Study | None,
        keys: Sequence[Any],
        on_done: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        """Makes the artifacts of all keys of a step; see runner.making."""
        step = step_named(name)
        for key in keys:
            started, threads = time.perf_counter(), threads_for(step, key)
            if step.find(self._store, study, key) is None:
                self._watch(step.title)
            with _threads(threads):
                reused = made_or_found(step, Context(self._store, study, threads), key)
            on_done(Outcome(key, time.perf_counter() - started, reused))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
