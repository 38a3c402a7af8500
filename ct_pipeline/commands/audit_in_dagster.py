"""An audit on the command line, made by the same assets as in the Dagster UI, in this process."""

import warnings
from collections.abc import Callable
from pathlib import Path

from ct_pipeline.commands.dagster_home import CLI_TAG, QUIET, close_abandoned_runs, failure_of, prepare_dagster_home
from ct_pipeline.runner.in_process import InProcess
from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.environment import home
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.locks import locked

STARTED_BY = "audit"
JOB = "audit_on_the_command_line"
"""A name that the code location does not have: such a run can be looked at, and not started again from the UI."""


class Unreachable(RuntimeError):
    """Dagster's or MLflow's database cannot be used."""


def materialize(store: ArtifactStore, audit: Audit, file: Path | None, watch: Callable[[str], None]) -> str | None:
    """Makes what an audit lacks as one Dagster run on the subject's partition, with its record.

    Args:
        store: holds the artifacts.
        audit: what is audited.
        file: its file where that is not in the audits folder.
        watch: called with what is being made.

    Returns:
        What the run said that failed, a gate that is not passed among it; None where nothing did.

    Raises:
        Unreachable: a database cannot be used.
    """
    prepare_dagster_home()
    with warnings.catch_warnings(), locked(home() / ".audits.lock"):
        warnings.simplefilter("ignore")
        import dagster as dg
        from sqlalchemy.exc import SQLAlchemyError

        from ct_pipeline.assets.audits import AUDIT_ASSETS
        from ct_pipeline.partitions import audit_subject
        from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
        from ct_pipeline.resources.audit_files import AuditFiles
        from ct_pipeline.resources.tracking import TrackingResource

        class Here(AcceleratorResource):
            """No processes beside this one."""

            def open(self, root: Path) -> InProcess:
                return InProcess(store, watch)

        defs = dg.Definitions(
            AUDIT_ASSETS,
            jobs=[dg.define_asset_job(JOB)],
            resources={
                "artifacts": ArtifactStoreResource(folder=str(store.root)),
                "accelerator": Here(),
                "audits": AuditFiles(file=str(file or "")),
                "tracking": TrackingResource(),
            },
            executor=dg.in_process_executor,
        )
        try:
            with dg.DagsterInstance.get() as instance:
                close_abandoned_runs(instance, STARTED_BY)
                instance.add_dynamic_partitions(audit_subject.name, [audit.name])
                result = defs.resolve_job_def(JOB).execute_in_process(
                    partition_key=audit.name,
                    instance=instance,
                    tags={CLI_TAG: STARTED_BY},
                    run_config=QUIET,
                    raise_on_error=False,
                )
        except (dg.DagsterError, SQLAlchemyError) as error:
            raise Unreachable(str(error)) from error
    return None if result.success else failure_of(result)
