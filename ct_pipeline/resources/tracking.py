"""MLflow tracking: one run per organism or audit, one per cell or audit run under it; results are never read back."""

import contextlib
import fcntl
import functools
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import pandas
from pydantic import Field

from ct_pipeline.report.tables import safe_for_spreadsheets
from ct_pipeline.study.environment import home, mlflow_address, prepare_environment

FINGERPRINT = "ct_pipeline.fingerprint"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Lets the MLflow UI show training runs first, not traces of an application."""


@dataclass(frozen=True)
class Run:
    """What one MLflow run is to hold.

    `started` and `finished` are when its work was done; `metrics` are final values; `curves` are name -> step -> value;
    `tables` are stored as CSV files.
    """

    name: str
    fingerprint: str
    parent: str | None
    parameters: Mapping[str, object]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    started: datetime
    finished: datetime
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    tables: Mapping[str, pandas.DataFrame] = field(default_factory=dict)


class Tracking:
    """The MLflow experiment of one study."""

    def __init__(self, uri: str, ui: str, experiment: str, artifacts: Path) -> None:
        prepare_environment()
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)

        self._ui = ui.rstrip("/")
        with _database_lock(artifacts.parent, uri):
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                location = (artifacts / experiment).as_uri()
                self.experiment = self._client.create_experiment(experiment, location, tags=KIND)
            else:
                self.experiment = found.experiment_id
        self._runs = {
            run.data.tags[FINGERPRINT]: run.info.run_id
            for run in self._all_runs()
            if FINGERPRINT in run.data.tags and run.info.status == "FINISHED"
        }

    def knows(self, run: Run) -> bool:
        """Whether a run of this fingerprint is finished."""
        return run.fingerprint in self._runs

    def add(self, run_id: str, metrics: Mapping[str, float | None], step: int, moment: datetime) -> None:
        """Adds a point to the curves of a run that is there; a missing value leaves a gap."""
        self._client.log_batch(run_id, metrics=_entities(metrics, _milliseconds(moment), step))

    def record(self, run: Run) -> str:
        """Writes a run unless one of its fingerprint is finished, and returns the run's id."""
        if run.fingerprint in self._runs:
            return self._runs[run.fingerprint]
        from mlflow.entities import Param, RunTag

        parent = {"mlflow.parentRunId": run.parent} if run.parent else {}
        tags = {FINGERPRINT: run.fingerprint, "mlflow.runName": run.name} | parent | dict(run.tags)
        created = self._client.create_run(
            self.experiment, tags=tags, run_name=run.name, start_time=_milliseconds(run.started)
        )
        run_id, now = created.info.run_id, _milliseconds(run.finished)
        status = "FAILED"
        try:
            metrics = _entities(run.metrics, now, 0)
            for name, values in run.curves.items():
                metrics += [each for step, value in values.items() for each in _entities({name: value}, now, step)]
            parameters = [Param(_key(name), str(value)[:6000]) for name, value in run.parameters.items()]
            for start in range(0, max(len(metrics), 1), 1000):
                self._client.log_batch(
                    run_id,
                    metrics=metrics[start : start + 1000],
                    params=parameters if start == 0 else [],
                    tags=[RunTag("mlflow.note.content", run.tags.get("note", ""))] if start == 0 else [],
                )
            with TemporaryDirectory() as folder:
                for name, table in run.tables.items():
                    safe_for_spreadsheets(table).to_csv(Path(folder) / f"{name}.csv", index=False)
                if run.tables:
                    self._client.log_artifacts(run_id, folder)
            status = "FINISHED"
        finally:
            self._client.set_terminated(run_id, status, end_time=_milliseconds(run.finished))
        self._runs[run.fingerprint] = run_id
        return run_id

    def url(self, run_id: str) -> str:
        """Address of a run in the MLflow UI."""
        return f"{self._ui}/#/experiments/{self.experiment}/runs/{run_id}"

    def _all_runs(self) -> Iterator:
        token = None
        while True:
            page = self._client.search_runs([self.experiment], max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


class TrackingResource(dg.ConfigurableResource):
    """Where MLflow keeps its runs."""

    uri: str = Field(default="", description="MLflow tracking URI; empty: a SQLite file under CT_PIPELINE_HOME/mlflow.")
    ui: str = Field(
        default="", description="Address of the MLflow UI, for links; empty: CT_PIPELINE_MLFLOW_UI, else port 5000."
    )

    def open(self, experiment: str) -> Tracking:
        """The experiment of a study, made at first use; the same object for all steps of a process."""
        folder = home() / "mlflow"
        return open_tracking(
            self.uri or f"sqlite:///{folder / 'mlflow.db'}",
            self.ui or mlflow_address(),
            experiment,
            folder / "artifacts",
        )


@functools.cache
def open_tracking(uri: str, ui: str, experiment: str, artifacts: Path) -> Tracking:
    """The experiment of a name; see Tracking."""
    return Tracking(uri, ui, experiment, artifacts)


@contextlib.contextmanager
def _database_lock(folder: Path, uri: str) -> Iterator[None]:
    """Lets one process at a time create a SQLite database: several at once would leave it broken."""
    folder.mkdir(parents=True, exist_ok=True)
    if not uri.startswith("sqlite:"):
        yield
        return
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _entities(metrics: Mapping[str, float | None], now: int, step: int) -> list:
    from mlflow.entities import Metric

    return [Metric(_key(name), float(value), now, step) for name, value in metrics.items() if value is not None]


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _key(name: str) -> str:
    """A name that MLflow accepts."""
    return re.sub(r"[^\w\-. /]", "_", name)
