"""The code location: every asset of a study and of audits, the resources they need, how and when they are run."""

from ct_pipeline.settings.environment import enter_folder, prepare_environment

prepare_environment()
enter_folder()

import dagster as dg  # noqa: E402

from ct_pipeline.assets.audit_inputs import audit_inputs  # noqa: E402
from ct_pipeline.assets.audit_overdue import on_time  # noqa: E402
from ct_pipeline.assets.audits import AUDIT_ASSETS  # noqa: E402
from ct_pipeline.assets.from_steps import assets_of, jobs_of  # noqa: E402
from ct_pipeline.assets.study_report import report_asset  # noqa: E402
from ct_pipeline.automation import SCHEDULES, audit_automation, audit_job, audit_subjects  # noqa: E402
from ct_pipeline.interventions.files import study_of_process  # noqa: E402
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource  # noqa: E402
from ct_pipeline.resources.audit_files import AuditFiles  # noqa: E402
from ct_pipeline.resources.ray_cluster import step_executor  # noqa: E402
from ct_pipeline.resources.tracking import TrackingResource  # noqa: E402
from ct_pipeline.settings.study import Study  # noqa: E402

RESOURCES = {
    "artifacts": ArtifactStoreResource(),
    "accelerator": AcceleratorResource(),
    "audits": AuditFiles(),
    "tracking": TrackingResource(),
}


def definitions_for(study: Study, whole: Study | None = None) -> dg.Definitions:
    """Everything that Dagster shows of a study and of audits; `whole` is what the report covers where `study` is a part."""
    return dg.Definitions(
        assets=[*assets_of(study), report_asset(study, whole or study), *AUDIT_ASSETS, audit_inputs],
        asset_checks=[on_time],
        jobs=[*jobs_of(study), audit_job],
        schedules=list(SCHEDULES.values()),
        sensors=[audit_subjects, audit_automation],
        resources=RESOURCES,
        executor=step_executor(),
    )


defs = definitions_for(*study_of_process())


# A step in another process finds its job again by the names of this module and of one of these functions.


def models() -> dg.JobDefinition:
    """Everything that is made per base model."""
    return defs.resolve_job_def("models")


def organisms() -> dg.JobDefinition:
    """Everything that is made per organism."""
    return defs.resolve_job_def("organisms")


def cells() -> dg.JobDefinition:
    """Everything that is made per organism and method."""
    return defs.resolve_job_def("cells")


def report() -> dg.JobDefinition:
    """The report of the study."""
    return defs.resolve_job_def("report")


JOBS = {"model": models, "organism": organisms, "cell": cells, "study": report}
"""Grain -> the job of all its assets."""
