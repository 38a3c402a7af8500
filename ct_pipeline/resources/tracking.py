"""MLflow tracking: one run per organism or audit, one per cell or audit run under it; results are never read back."""

import functools
import logging
import posixpath
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
from pydantic import Field

from ct_pipeline.report.tables import write_csv
from ct_pipeline.resources.tracking_store import (
    artifact_root,
    only_one,
    outdated_schema_told,
    require_artifact_store,
    require_same_place,
    tracking_uri,
)
from ct_pipeline.settings.environment import dagster_address, mlflow_address, prepare_environment
from ct_pipeline.steps.tracked_run import TrackedRun

FINGERPRINT = "ct_pipeline.fingerprint"
MISALIGNMENT = {"mlflow.experimentKind": "custom_model_development"}
"""Lets the MLflow UI show training runs first, not traces of an application."""


class Tracking:
    """The MLflow experiment of one study.

    Raises UserError where the database or the place for tables cannot be used.
    """

    def __init__(self, uri: str, ui: str, experiment: str, artifacts: str) -> None:
        prepare_environment()
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)

        self._ui = ui.rstrip("/")
        self._uri = uri
        with only_one(uri, "schema"), outdated_schema_told():
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                require_artifact_store(artifacts)
                self.experiment = self._client.create_experiment(
                    experiment, f"{artifacts}/{experiment}", tags=MISALIGNMENT
                )
            else:
                self.experiment = found.experiment_id
                require_same_place(experiment, found.artifact_location, f"{artifacts}/{experiment}")
        self._runs = {run.data.tags.get(FINGERPRINT): run.info.run_id for run in self._finished()}

    def knows(self, run: TrackedRun) -> bool:
        """Whether a run of this fingerprint is finished."""
        return run.fingerprint in self._runs

    def add(self, run_id: str, metrics: Mapping[str, float | None], step: int, moment: datetime) -> None:
        """Adds a point to the curves of a run that is there; a missing value leaves a gap."""
        self._client.log_batch(run_id, metrics=_entities(metrics, _milliseconds(moment), step))

    def record(self, run: TrackedRun, dagster_run: str | None = None) -> str:
        """Writes a run unless one of its fingerprint is finished, and the runs above it; returns the run's id.

        Of several processes that record a fingerprint at once, one writes it. `dagster_run` is where it was made.
        """
        if run.fingerprint not in self._runs:
            parent = None
            if run.parent is not None:
                parent = self._runs.get(run.under) or self.record(run.parent(), dagster_run)
            with only_one(self._uri, f"run {run.fingerprint}"):
                written = [other.info.run_id for other in self._finished(f"tags.`{FINGERPRINT}` = '{run.fingerprint}'")]
                self._runs[run.fingerprint] = written[0] if written else self._write(run, parent, dagster_run)
        return self._runs[run.fingerprint]

    def _write(self, run: TrackedRun, under: str | None, dagster_run: str | None) -> str:
        from mlflow.entities import Param, RunTag

        parent = {"mlflow.parentRunId": under} if under else {}
        made_in = {}
        if dagster_run is not None:
            made_in = {"dagster.run_id": dagster_run, "dagster.url": f"{dagster_address()}/runs/{dagster_run}"}
        tags = {FINGERPRINT: run.fingerprint, "mlflow.runName": run.name} | parent | dict(run.tags) | made_in
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
                    write_csv(table, Path(folder) / f"{name}.csv")
                if run.tables:
                    self._client.log_artifacts(run_id, folder)
            status = "FINISHED"
        finally:
            self._client.set_terminated(run_id, status, end_time=_milliseconds(run.finished))
        return run_id

    def url(self, run_id: str) -> str:
        """Address of a run in the MLflow UI."""
        return f"{self._ui}/#/experiments/{self.experiment}/runs/{run_id}"

    def _finished(self, condition: str = "") -> Iterator:
        """Finished runs, all or those that fulfil a condition."""
        wanted = " and ".join(filter(None, ["attributes.status = 'FINISHED'", condition]))
        token = None
        while True:
            page = self._client.search_runs([self.experiment], wanted, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


class TrackingResource(dg.ConfigurableResource):
    """Where MLflow keeps its runs."""

    uri: str = Field(
        default="",
        description="MLflow tracking URI; empty: CT_PIPELINE_DATABASE, else a SQLite file under CT_PIPELINE_HOME/mlflow.",
    )
    ui: str = Field(
        default="", description="Address of the MLflow UI, for links; empty: CT_PIPELINE_MLFLOW_UI, else port 5000."
    )

    def open(self, experiment: str) -> Tracking:
        """The experiment of a study, made at first use; the same object for all steps of a process."""
        return open_tracking(self.uri or tracking_uri(), self.ui or mlflow_address(), experiment, artifact_root())


@functools.cache
def open_tracking(uri: str, ui: str, experiment: str, artifacts: str) -> Tracking:
    """The experiment of a name; see Tracking."""
    return Tracking(uri, ui, experiment, artifacts)


def _entities(metrics: Mapping[str, float | None], now: int, step: int) -> list:
    from mlflow.entities import Metric

    return [Metric(_key(name), float(value), now, step) for name, value in metrics.items() if value is not None]


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _key(name: str) -> str:
    """A name that MLflow accepts: at most 250 characters, and where it has slashes a path in its shortest form."""
    key = re.sub(r"[^\w\-. /]", "_", name)[:250]
    if posixpath.normpath(key) == key and not key.startswith((".", "/")):
        return key
    return re.sub(r"^\.", "_", key.replace("/", "_"))
