"""`ct-pipeline study`: materializes what a study lacks, in this process, through the same assets as the Dagster UI."""

import contextlib
import fcntl
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from ct_pipeline.commands.dagster_home import close_abandoned_runs, prepare_dagster_home
from ct_pipeline.commands.progress import StudyProgress
from ct_pipeline.stages import preflight, study_report
from ct_pipeline.stages.catalog import read_study
from ct_pipeline.stages.node import find
from ct_pipeline.stages.organism_evaluation import node, reasons, usable
from ct_pipeline.stages.pipeline import STAGES
from ct_pipeline.stages.plan import plan_of
from ct_pipeline.stages.workers import Workers, shared_workers
from ct_pipeline.store.artifact_store import ArtifactStore, DamagedArtifact
from ct_pipeline.study.environment import home
from ct_pipeline.study.errors import UserError
from ct_pipeline.study.narrow import narrowed
from ct_pipeline.study.spec import Study

# Stages of one group are steps of one Dagster run; the induction gate ends the second group.
GATED = ("misaligned_organism", "control_organism", "organism_evaluation")
GROUPS = (
    ("base_model",),
    GATED,
    ("consistency_candidates",),
    ("consistency_labels", "distribution_shift", "retrained_model", "evaluation", "uptake"),
)


def run_study(spec: Path, only: Sequence[str], seeds: int | None, workers: int, console: Console) -> Path:
    """Runs whatever is missing of a study and returns the report's page.

    UserError where something outside the program is wrong; finished work is kept whatever happens.
    """
    started = time.perf_counter()
    whole = read_study(spec)
    study = narrowed(whole, only, seeds)
    store = ArtifactStore(home() / "artifacts")
    store.prepare()
    with _shown_warnings(console), _only_one(home() / ".study.lock"):
        if study_report.is_whole(store, study, whole):
            page = study_report.make(store, whole, home() / "reports")
            console.print(
                f"Nothing to do: all {len(study.cells)} cells of study {study.name} are finished "
                f"({time.perf_counter() - started:.1f} s)."
            )
            return page
        preflight.check(study)
        pool = shared_workers(store.root, workers or None)
        pool.start()
        try:
            page = _materialize(spec, only, seeds, study, store, pool, console)
        finally:
            pool.stop()
    console.print(f"Done in {time.perf_counter() - started:.0f} s.")
    return page


def _materialize(
    spec: Path,
    only: Sequence[str],
    seeds: int | None,
    study: Study,
    store: ArtifactStore,
    pool: Workers,
    console: Console,
) -> Path:
    os.environ |= {
        "CT_PIPELINE_STUDY": str(spec),
        "CT_PIPELINE_ONLY": ",".join(only),
        "CT_PIPELINE_SEEDS": str(seeds or ""),
    }
    prepare_dagster_home()
    # Dagster and MLflow take seconds to import: the workers have theirs to import meanwhile.
    from ct_pipeline.commands.dagster_runs import AssetRuns

    with AssetRuns(study) as runs:
        close_abandoned_runs(runs.instance)
        # Here and not in a thread beside: MLflow and Dagster both migrate databases by Alembic, which keeps its state
        # in globals of the process.
        runs.open_tracking()
        with StudyProgress(study, console) as progress:
            pool.watchers.append(progress)
            try:
                # Models one after another: each is then loaded, and its engine started, as seldom as can be.
                for name, model in study.models.items():
                    for names in GROUPS:
                        _run_group(names, study.model_copy(update={"models": {name: model}}), store, runs)
                failed = _failed_gates(store, study)
                runs.materialize(("study_report",), None)
                if runs.failure:
                    raise UserError(f"the report was not written: {runs.failure}")
            finally:
                pool.watchers.remove(progress)
    size = plan_of(study, pool.count)
    console.print(
        f"Base-model loads: {pool.model_loads} ({size.model_loads} planned); "
        f"engine starts: {pool.engine_starts} ({size.engine_starts})."
    )
    for name, why in failed.items():
        console.print(f"{name} did not pass the induction gate and was not used: {why}", style="yellow", markup=False)
    if len(failed) == len(study.organisms):
        raise UserError(
            "no organism passed the induction gate: nothing was consistency-trained. Train organisms more (induction.rows, "
            "induction.training), or measure them as they are (induction.gate: report)"
        )
    return home() / "reports" / study.name / "index.html"


def _run_group(names: Sequence[str], study: Study, store: ArtifactStore, runs) -> None:
    stages = [stage for stage in STAGES if stage.name in names]
    keys = stages[0].keys(study)
    if stages[0].name == "consistency_candidates":
        usable = {cell.organism for cell in study_report.usable_cells(store, study, study.organisms)}
        keys = tuple(key for key in keys if key in usable)
    elif stages[0].grain == "cell":
        keys = study_report.usable_cells(store, study, study.organisms)
    missing = [
        key
        for key in keys
        if any(stage.find(store, study, key) is None for stage in stages) or not runs.knows(names, key)
    ]
    runs.materialize(names, missing)
    lacking = [key for key in keys if any(stage.find(store, study, key) is None for stage in stages)]
    if lacking:
        raise UserError(runs.failure or f"{', '.join(names)}: not all of it was made, and Dagster says no reason")
    if runs.failure and not (names == GATED and _failed_gates(store, study)):
        raise UserError(f"{runs.failure}\nWhat was made is kept; run again to go on.")


def _failed_gates(store: ArtifactStore, study: Study) -> dict[str, str]:
    found = {organism.key: find(store, node(study, organism)) for organism in study.organisms}
    return {key: " ".join(reasons(artifact)) for key, artifact in found.items() if not usable(study, artifact)}


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Refuses to run two studies on one results folder at a time."""
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"another study is running on {path.parent} (process {lock.read().strip() or 'unknown'}): wait for it, or "
                "set CT_PIPELINE_HOME to another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
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
