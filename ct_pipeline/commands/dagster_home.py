"""Dagster's instance for this project: its folder, its settings, and runs that a killed process left behind."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.resources.database import Database, DatabaseError, database
from ct_pipeline.store.artifact_store import disk_errors
from ct_pipeline.study.environment import DATABASE_VARIABLE, home
from ct_pipeline.study.errors import UserError

if TYPE_CHECKING:
    import dagster as dg

CLI_TAG = "ct_pipeline/started_by"
STORAGE = f"""
storage:
  postgres:
    postgres_url:
      env: {DATABASE_VARIABLE}
"""


def prepare_dagster_home() -> Path:
    """Makes CT_PIPELINE_HOME/dagster this process's DAGSTER_HOME, with the project's dagster.yaml in it.

    Where CT_PIPELINE_DATABASE names a database, Dagster's tables are made in it. UserError where that cannot be.
    """
    folder, server = home() / "dagster", database()
    settings = project_file("dagster.yaml").read_text() + (STORAGE if server else "")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "dagster.yaml"
        if not path.is_file() or path.read_text() != settings:
            _replace(path, settings)
    os.environ["DAGSTER_HOME"] = str(folder)
    if server:
        # The form that Dagster's processes need: it names the driver.
        os.environ[DATABASE_VARIABLE] = server.dagster_url
        _make_tables(server)
    return folder


def _replace(path: Path, text: str) -> None:
    """Writes a file at one stroke: another process reads the old text or the new one."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)


def _make_tables(server: Database) -> None:
    """Makes Dagster's tables where they are absent, one process at a time: several at once would disturb each other."""
    from dagster_postgres import DagsterPostgresStorage
    from sqlalchemy.exc import ProgrammingError

    with server.lock("dagster schema"):
        try:
            DagsterPostgresStorage(server.dagster_url)
        except ProgrammingError as error:
            raise DatabaseError(
                f"{server}: Dagster's tables cannot be made: {str(error.orig).splitlines()[0]}; the user must own the "
                "database: ALTER DATABASE ... OWNER TO ..."
            ) from None


def close_abandoned_runs(instance: "dg.DagsterInstance") -> None:
    """Marks runs of killed `ct-pipeline study` processes as failed and gives their pool slots back.

    To be called by the one process that holds the study lock: any such run that is still marked as started is abandoned.
    """
    import dagster as dg

    statuses = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED]
    abandoned = instance.get_runs(filters=dg.RunsFilter(statuses=statuses, tags={CLI_TAG: "study"}))
    for run in abandoned:
        instance.report_run_failed(run, "its process was killed; the next one took up what was missing")
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def project_file(name: str) -> Path:
    """A file of the project's top folder: here, or beside the package; UserError where it is in neither place."""
    places = (Path(name).absolute(), Path(__file__).parents[2] / name)
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise UserError(f"{name} is not here: run ct-pipeline in the project's folder")
    return found
