"""The code location: every asset of studies and audits, the resources they need, how and when they are run."""

from ct_pipeline.settings.environment import enter_folder, prepare_environment

prepare_environment()
enter_folder()

import dagster as dg  # noqa: E402

from ct_pipeline.assets.audit_evaluation import audit_evaluation  # noqa: E402
from ct_pipeline.assets.audit_inputs import audit_inputs  # noqa: E402
from ct_pipeline.assets.audit_overdue import on_time  # noqa: E402
from ct_pipeline.assets.audit_prediction import audit_prediction  # noqa: E402
from ct_pipeline.assets.audit_shift import audit_shift  # noqa: E402
from ct_pipeline.assets.audit_verdict import audit_verdict  # noqa: E402
from ct_pipeline.assets.base_model import base_model  # noqa: E402
from ct_pipeline.assets.capability import STAGE as CAPABILITY  # noqa: E402
from ct_pipeline.assets.capability import capability  # noqa: E402
from ct_pipeline.assets.consistency_candidates import consistency_candidates  # noqa: E402
from ct_pipeline.assets.consistency_labels import consistency_labels  # noqa: E402
from ct_pipeline.assets.distribution_shift import distribution_shift  # noqa: E402
from ct_pipeline.assets.evaluation import evaluation  # noqa: E402
from ct_pipeline.assets.misaligned_organism import control_organism, misaligned_organism  # noqa: E402
from ct_pipeline.assets.organism_evaluation import organism_evaluation  # noqa: E402
from ct_pipeline.assets.retrained_model import retrained_model  # noqa: E402
from ct_pipeline.assets.study_report import study_report  # noqa: E402
from ct_pipeline.assets.uptake import uptake  # noqa: E402
from ct_pipeline.automation import SCHEDULES, audit_automation, audit_job, audit_subjects  # noqa: E402
from ct_pipeline.partitions import STUDY  # noqa: E402
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource  # noqa: E402
from ct_pipeline.resources.ray_cluster import step_executor  # noqa: E402
from ct_pipeline.resources.tracking import TrackingResource  # noqa: E402

ASSETS = [
    base_model,
    misaligned_organism,
    control_organism,
    organism_evaluation,
    consistency_candidates,
    consistency_labels,
    distribution_shift,
    retrained_model,
    evaluation,
    uptake,
    *([capability] if CAPABILITY.wanted(STUDY) else []),
    study_report,
]

AUDIT_ASSETS = [audit_evaluation, audit_prediction, audit_shift, audit_verdict]

RESOURCES = {
    "artifacts": ArtifactStoreResource(),
    "accelerator": AcceleratorResource(),
    "tracking": TrackingResource(),
}

defs = dg.Definitions(
    assets=[*ASSETS, *AUDIT_ASSETS, audit_inputs],
    asset_checks=[on_time],
    jobs=[audit_job],
    schedules=list(SCHEDULES.values()),
    sensors=[audit_subjects, audit_automation],
    resources=RESOURCES,
    executor=step_executor(),
)
