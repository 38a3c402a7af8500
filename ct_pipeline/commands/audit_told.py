"""Tells Dagster and MLflow of an audit that was run on the command line, so that both show it as one of their own."""

import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ct_pipeline.commands.dagster_home import CLI_TAG, QUIET, close_abandoned_runs, failure_of, prepare_dagster_home
from ct_pipeline.records.audit_runs import Record
from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.disk import disk_errors

STARTED_BY = "audit"


def tell(store: ArtifactStore, audit: Audit, run: Record) -> None:
    """Shows a finished run in Dagster, as a run of its own on the subject's partition, and puts it down in MLflow.

    A gate that is not passed fails that run, as it does where Dagster makes the audit.

    Raises:
        UserError: the one or the other could not be told; the audit's record and report are whole nevertheless, and the
            next run of the audit tells of it.
    """
    prepare_dagster_home()
    with warnings.catch_warnings(), _one_at_a_time():
        warnings.simplefilter("ignore")
        import dagster as dg
        from sqlalchemy.exc import SQLAlchemyError

        try:
            missing = _shown(store, audit, run)
        except (dg.DagsterError, SQLAlchemyError) as error:
            missing = str(error)
    if missing is not None:
        raise UserError(f"Dagster and MLflow were not told of run {run['number']} of audit {audit.name}: {missing}")


def _shown(store: ArtifactStore, audit: Audit, run: Record) -> str | None:
    """What went wrong; None where every stage is shown."""
    import dagster as dg

    from ct_pipeline.assets.audit_told import told_of
    from ct_pipeline.partitions import audit_subject
    from ct_pipeline.resources.tracking import TrackingResource

    with dg.DagsterInstance.get() as instance:
        close_abandoned_runs(instance, STARTED_BY)
        instance.add_dynamic_partitions(audit_subject.name, [audit.name])
        # Under a name that the code location does not have: such a run can be looked at, and not started again from the UI.
        defs = dg.Definitions(
            [told_of(store, audit, run)],
            jobs=[dg.define_asset_job("audit_on_the_command_line")],
            resources={"tracking": TrackingResource()},
            executor=dg.in_process_executor,
        )
        result = defs.resolve_job_def("audit_on_the_command_line").execute_in_process(
            partition_key=audit.name,
            instance=instance,
            tags={CLI_TAG: STARTED_BY},
            run_config=QUIET,
            raise_on_error=False,
        )
        shown = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    return None if len(shown) == len(run["artifacts"]) else failure_of(result)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Waits for another command that is telling of an audit; while this is held, no run of theirs is alive."""
    with disk_errors(home()):
        home().mkdir(parents=True, exist_ok=True)
        lock = (home() / ".telling.lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
