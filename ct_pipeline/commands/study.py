"""`ct-pipeline study`: materializes what a study lacks, here or on Ray, through the same assets as the Dagster UI."""

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from ct_pipeline.commands.dagster_home import close_abandoned_runs, prepare_dagster_home, share_devices
from ct_pipeline.commands.progress import StudyProgress
from ct_pipeline.commands.study_groups import failed_gates, run_group
from ct_pipeline.commands.sync import share
from ct_pipeline.interventions.files import read_study
from ct_pipeline.planning.plan import plan_of
from ct_pipeline.records import study_report
from ct_pipeline.runner.workers import shared_workers
from ct_pipeline.settings.environment import executor, home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import preflight
from ct_pipeline.steps.catalog import groups_of
from ct_pipeline.store.artifact_store import ArtifactStore, DamagedArtifact
from ct_pipeline.store.locks import Taken, locked
from ct_pipeline.store.node import remembered_places
from ct_pipeline.store.sharing import open_store

if TYPE_CHECKING:
    from ct_pipeline.commands.dagster_runs import AssetRuns


class Way(Protocol):
    """Where the work of a study is done.

    Attributes:
        devices: how many steps of Dagster runs compute at once.
    """

    devices: int

    def take_over(self, abandoned: Sequence[str]) -> None:
        """Ends what runs that a killed process left behind are still doing."""

    def make(self, study: Study, store: ArtifactStore, runs: "AssetRuns", progress: StudyProgress) -> None:
        """Makes what is missing of all stages."""

    def summary(self, study: Study) -> str:
        """What is told of it afterwards."""

    def close(self) -> None:
        """Ends what was started for it."""


class Here:
    """Implements Way: this process's workers do the parallel work of one step at a time, warm from stage to stage."""

    devices = 1

    def __init__(self, root: Path, workers: int) -> None:
        self._pool = shared_workers(root, workers or None)
        self._pool.start()

    def take_over(self, abandoned: Sequence[str]) -> None:
        """Workers end with their parent: there is nothing to end."""

    def make(self, study: Study, store: ArtifactStore, runs: "AssetRuns", progress: StudyProgress) -> None:
        """Models one after another: each is then loaded, and its engine started, as seldom as can be."""
        self._pool.watchers.append(progress)
        try:
            for name, model in study.models.items():
                part = study.model_copy(update={"models": {name: model}})
                for group in groups_of(part):
                    run_group(group, part, store, runs)
        finally:
            self._pool.watchers.remove(progress)

    def summary(self, study: Study) -> str:
        """Loads and starts against the plan."""
        size = plan_of(study, self._pool.count)
        return (
            f"Base-model loads: {self._pool.model_loads} ({size.model_loads} planned); "
            f"engine starts: {self._pool.engine_starts} ({size.engine_starts})."
        )

    def close(self) -> None:
        """Ends the workers."""
        self._pool.stop()


@remembered_places()
def run_study(spec: Path, only: Sequence[str], seeds: int | None, workers: int, console: Console) -> Path:
    """Runs whatever is missing of a study, where CT_PIPELINE_EXECUTOR says, and returns the report's page.

    UserError where something outside the program is wrong; finished work is kept whatever happens.
    """
    started = time.perf_counter()
    whole = read_study(spec)
    study = narrowed(whole, only, seeds)
    store = open_store(home() / "artifacts")
    store.prepare()
    share(store, console)
    with _shown_warnings(console), only_one_study(home() / ".study.lock"):
        if study_report.is_whole(store, study, whole):
            page = study_report.make(store, whole, home() / "reports")
            console.print(
                f"Nothing to do: all {len(study.cells)} cells of study {study.name} are finished "
                f"({time.perf_counter() - started:.1f} s)."
            )
            return page
        preflight.check(study)

        def run() -> Path:
            way = _way(store.root, workers)
            try:
                return _materialize(spec, only, seeds, study, store, way, console)
            finally:
                way.close()

        page = _with_whole_copies(store, console, run)
    console.print(f"Done in {time.perf_counter() - started:.0f} s.")
    return page


def _with_whole_copies(store: ArtifactStore, console: Console, run: Callable[[], Path]) -> Path:
    """Runs again where a run ended because a copy in the remote was damaged: it is set aside now, and made."""
    known = store.sharing.remote.damaged() if store.sharing else frozenset()
    while True:
        try:
            return run()
        except UserError:
            found = store.sharing.remote.damaged() - known if store.sharing else frozenset()
            if not found:
                raise
            known |= found
            for name in sorted(found):
                place, _, _seal = name.rpartition("/")
                text = f"Warning: damaged copy {store.sharing.remote.name}: {place}; set aside and made again"
                console.print(text, style="yellow", markup=False, soft_wrap=True)
            # The workers' listings of it ended with them.
            store.sharing.remote.forget()


def _way(root: Path, workers: int) -> Way:
    if executor() == "in_process":
        return Here(root, workers)
    if workers:
        raise UserError("--workers: only in this process; on Ray a step has one worker per device that it is given")
    from ct_pipeline.commands.study_on_ray import OnRay
    from ct_pipeline.resources.ray_cluster import RayCluster

    return OnRay(RayCluster())


def _materialize(
    spec: Path, only: Sequence[str], seeds: int | None, study: Study, store: ArtifactStore, way: Way, console: Console
) -> Path:
    os.environ |= {
        "CT_PIPELINE_STUDY": str(spec.absolute()),
        "CT_PIPELINE_ONLY": ",".join(only),
        "CT_PIPELINE_SEEDS": str(seeds or ""),
    }
    prepare_dagster_home()
    # Dagster and MLflow take seconds to import: workers have theirs to import meanwhile.
    from ct_pipeline.commands.dagster_runs import AssetRuns

    with AssetRuns(study) as runs:
        way.take_over(close_abandoned_runs(runs.instance, "study"))
        share_devices(runs.instance, way.devices)
        # Here and not in a thread beside: MLflow and Dagster both migrate databases by Alembic, which keeps its state
        # in globals of the process.
        runs.open_tracking()
        with StudyProgress(study, console) as progress:
            way.make(study, store, runs, progress)
            failed = failed_gates(store, study)
            runs.materialize(("study_report",), None)
            if runs.failure:
                raise UserError(f"the report was not written: {runs.failure}")
    console.print(way.summary(study))
    for name, why in failed.items():
        console.print(f"{name} did not pass the induction gate and was not used: {why}", style="yellow", markup=False)
    if len(failed) == len(study.organisms):
        raise UserError(
            "no organism passed the induction gate: nothing was consistency-trained. Train organisms more (induction.rows, "
            "induction.training), or measure them as they are (induction.gate: report)"
        )
    return home() / "reports" / study.name / "index.html"


@contextlib.contextmanager
def only_one_study(path: Path) -> Iterator[None]:
    """Refuses to run two studies on one results folder at a time."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(path, wait=False))
        except Taken:
            raise UserError(
                f"another study is running on {path.parent} (process {path.read_text().strip() or 'unknown'}): wait for it, or "
                "set CT_PIPELINE_HOME to another folder"
            ) from None
        path.write_text(str(os.getpid()))
        yield


@contextlib.contextmanager
def _shown_warnings(console: Console) -> Iterator[None]:
    """Shows damaged artifacts as sentences, other packages' warnings not at all."""

    def show(message, category, *_args, **_kwargs) -> None:
        if issubclass(category, DamagedArtifact):
            console.print(f"Warning: {message}", style="yellow", markup=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", DamagedArtifact)
        warnings.showwarning = show
        yield
