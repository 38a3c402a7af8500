"""A study on a Ray cluster: chains of Dagster runs side by side, one per organism, each step on a device of its own."""

import multiprocessing
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from ct_pipeline.commands.progress import StudyProgress
from ct_pipeline.commands.study_groups import run_group
from ct_pipeline.resources.ray_cluster import RayCluster
from ct_pipeline.runner.workers import Outcome, end_with_parent
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import STUDY_STEPS, Key, groups_of
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import StoreSnapshot
from ct_pipeline.store.sharing import open_store

if TYPE_CHECKING:
    from ct_pipeline.commands.dagster_runs import AssetRuns

LOOK_SECONDS = 2.0
END_SECONDS = 90


class OnRay:
    """Implements Way: processes of this machine follow the runs, whose steps compute on the cluster.

    Attributes:
        devices: how many steps compute at once.
    """

    def __init__(self, cluster: RayCluster) -> None:
        self.devices = cluster.devices
        self._cluster = cluster

    def take_over(self, abandoned: Sequence[str]) -> None:
        """Ends the steps of runs that a killed process left behind: they go on without it."""
        self._cluster.stop(abandoned)

    def make(self, study: Study, store: ArtifactStore, runs: "AssetRuns", progress: StudyProgress) -> None:
        """Makes what is missing: base models first, then every organism's chain of runs, as many at once as devices.

        One chain's failure does not stop the others; afterwards the first is raised with the names of all that failed.
        """
        watch = _Watch(study, store, runs, progress)
        for groups, parts in chains(study):
            self._side_by_side(groups, parts, watch)

    def summary(self, study: Study) -> str:
        """One line about the cluster."""
        return f"Steps ran on the Ray cluster at {self._cluster.address}: {self.devices} at once."

    def close(self) -> None:
        """Leaves the cluster as it is."""

    def _side_by_side(self, groups: slice, parts: dict[str, Study], watch: "_Watch") -> None:
        pool = ProcessPoolExecutor(
            min(self.devices, len(parts)), mp_context=multiprocessing.get_context("spawn"), initializer=_begin
        )
        try:
            chained = {pool.submit(_run_chain, groups, part): name for name, part in parts.items()}
            pending = set(chained)
            while pending:
                _, pending = wait(pending, timeout=LOOK_SECONDS)
                watch.look()
            pool.shutdown()
        except BaseException:
            _interrupt(pool)
            raise
        _raise_failures(chained)


FIRST, REST = slice(1), slice(1, None)
"""Groups of steps: the base models', and all others."""


def chains(study: Study) -> tuple[tuple[slice, dict[str, Study]], ...]:
    """What runs side by side, in this order: groups of steps, and by name the parts of the study that go through them."""
    models = {name: narrowed(study, [name], None) for name in study.models}
    organisms = {one.key: narrowed(study, [one.model, one.kind, str(one.seed)], None) for one in study.organisms}
    return (FIRST, models), (REST, organisms)


class _Watch:
    """Tells a progress display of every key that was missing and that some run has materialized since."""

    def __init__(self, study: Study, store: ArtifactStore, runs: "AssetRuns", progress: StudyProgress) -> None:
        look = StoreSnapshot(store)
        self._runs, self._progress = runs, progress
        self._missing: dict[str, set[Key]] = {
            step.name: {key for key in step.keys(study) if step.find(look, study, key) is None} for step in STUDY_STEPS
        }
        self._announced: set[str] = set()

    def look(self) -> None:
        for step in STUDY_STEPS:
            for key in self._runs.materialized_since(step):
                if key not in self._missing[step.name]:
                    continue
                if step.name not in self._announced:
                    self._progress.started(step.name, len(self._missing[step.name]))
                    self._announced.add(step.name)
                self._missing[step.name].remove(key)
                self._progress.finished(step.name, Outcome(key, 0.0, False))


def _begin() -> None:
    warnings.simplefilter("ignore")
    threading.Thread(target=end_with_parent, daemon=True).start()


def _run_chain(groups: slice, part: Study) -> None:
    from ct_pipeline.commands.dagster_runs import AssetRuns

    store = open_store(home() / "artifacts")
    with AssetRuns(part) as runs:
        for group in groups_of(part)[groups]:
            run_group(group, part, store, runs)


def _raise_failures(chained: dict[Future, str]) -> None:
    failures = {name: error for future, name in chained.items() if (error := future.exception()) is not None}
    for error in failures.values():
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a process that followed runs ended without a word: most often the machine had no memory left; what was "
                "made is kept, run again to go on"
            ) from error
        names = ", ".join(failures)
        if isinstance(error, UserError):
            raise UserError(f"{names}: {error}") from error
        raise RuntimeError(f"{names}: {error}") from error


def _interrupt(pool: ProcessPoolExecutor) -> None:
    """Has every process end the steps of its run, and waits for it; one that does not is killed."""
    processes = list((pool._processes or {}).values())
    for process in processes:
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.join(END_SECONDS)
        process.kill()
