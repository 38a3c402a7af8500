"""Dagster's instance for this project: its folder, its settings, and runs that a killed process left behind."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ct_pipeline.resources.database import Database, DatabaseError, database
from ct_pipeline.settings.environment import DATABASE_VARIABLE, home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.disk import disk_errors

if TYPE_CHECKING:
    import dagster as dg

CLI_TAG = "ct_pipeline/started_by"
STORAGE = f"""
storage:
  postgres:
    postgres_url:
      env: {DATABASE_VARIABLE}
"""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
MOST_SLOTS = 1000
"""Of a Dagster pool."""


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


def close_abandoned_runs(instance: "dg.DagsterInstance", started_by: str) -> list[str]:
    """Marks runs of killed `ct-pipeline study` (or `audit`) processes as failed, frees their pool slots, returns their ids.

    To be called by the one process that holds the command's lock: any such run still marked as started is abandoned.
    """
    import dagster as dg

    statuses = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED]
    abandoned = instance.get_runs(filters=dg.RunsFilter(statuses=statuses, tags={CLI_TAG: started_by}))
    for run in abandoned:
        instance.report_run_failed(run, "its process was killed; the next one took up what was missing")
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in abandoned]


def share_devices(instance: "dg.DagsterInstance", devices: int) -> None:
    """Lets so many steps compute at once, in all runs together: 1 where they share one process's workers."""
    from ct_pipeline.resources.accelerator import POOL

    instance.event_log_storage.set_concurrency_slots(POOL, min(devices, MOST_SLOTS))


def failure_of(result: "dg.ExecuteInProcessResult") -> str:
    """What the step that failed said."""
    for event in result.all_events:
        if event.is_failure and event.is_step_event:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return data.user_failure_data.description
            error = data.error.cause or data.error
            return error.message.strip()
    return "Dagster run failed without a step failure"


def project_file(name: str) -> Path:
    """A file of the project's top folder: here, or beside the package; UserError where it is in neither place."""
    places = (Path(name).absolute(), Path(__file__).parents[2] / name)
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise UserError(f"{name} is not here: run ct-pipeline in the project's folder")
    return found
