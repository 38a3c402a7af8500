"""A study on a Ray cluster: chains of Dagster runs side by side, one per organism, each step on a device of its own."""

import multiprocessing
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from ct_pipeline.commands.progress import StudyProgress
from ct_pipeline.commands.study_groups import GROUPS, Group, run_group
from ct_pipeline.resources.ray_cluster import RayCluster
from ct_pipeline.runner.workers import Outcome, end_with_parent
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import STAGES, Key
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

    def _side_by_side(self, groups: Sequence[Group], parts: dict[str, Study], watch: "_Watch") -> None:
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


def chains(study: Study) -> tuple[tuple[tuple[Group, ...], dict[str, Study]], ...]:
    """What runs side by side, in this order: groups of stages, and by name the parts of the study that go through them."""
    models = {name: narrowed(study, [name], None) for name in study.models}
    organisms = {one.key: narrowed(study, [one.model, one.kind, str(one.seed)], None) for one in study.organisms}
    return (GROUPS[:1], models), (GROUPS[1:], organisms)


class _Watch:
    """Tells a progress display of every key that was missing and that some run has materialized since."""

    def __init__(self, study: Study, store: ArtifactStore, runs: "AssetRuns", progress: StudyProgress) -> None:
        look = StoreSnapshot(store)
        self._runs, self._progress = runs, progress
        self._missing: dict[str, set[Key]] = {
            stage.name: {key for key in stage.keys(study) if stage.find(look, study, key) is None} for stage in STAGES
        }
        self._told: set[str] = set()

    def look(self) -> None:
        for stage in STAGES:
            for key in self._runs.materialized_since(stage):
                if key not in self._missing[stage.name]:
                    continue
                if stage.name not in self._told:
                    self._progress.started(stage.name, len(self._missing[stage.name]))
                    self._told.add(stage.name)
                self._missing[stage.name].remove(key)
                self._progress.finished(stage.name, Outcome(key, 0.0, False))


def _begin() -> None:
    warnings.simplefilter("ignore")
    threading.Thread(target=end_with_parent, daemon=True).start()


def _run_chain(groups: Sequence[Group], part: Study) -> None:
    from ct_pipeline.commands.dagster_runs import AssetRuns

    store = open_store(home() / "artifacts")
    with AssetRuns(part) as runs:
        for names in groups:
            run_group(names, part, store, runs)


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
