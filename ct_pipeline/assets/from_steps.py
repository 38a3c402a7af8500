"""The assets of a study, derived from its steps: partitions, dependencies, metadata per partition, checks, tracked runs."""

import socket
from typing import Any

import dagster as dg

from ct_pipeline.assets.launch import is_launched, make_launched
from ct_pipeline.assets.metadata import as_metadata
from ct_pipeline.partitions import Partitions, partition_key
from ct_pipeline.resources.accelerator import POOL, AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.ray_cluster import step_options
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.runner.workers import Outcome
from ct_pipeline.settings.environment import executor
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import STUDY_STEPS, in_waves, step_named
from ct_pipeline.steps.shown import File
from ct_pipeline.steps.step import Artifacts, Check, Context, Step

GROUP = "study"
OWNERS = ["team:ct-pipeline"]
ON_DEVICE: dict[str, Any] = {"pool": POOL, **step_options()}
"""Of an asset whose step computes: one slot of the pool, and what it asks of Ray where that runs it."""


def assets_of(study: Study) -> list[dg.AssetsDefinition]:
    """One asset per step that a study asks for, in the steps' order."""
    partitions = Partitions(study)
    return [_asset(step, partitions) for step in STUDY_STEPS if step.wanted(study)]


def jobs_of(study: Study) -> list[Any]:
    """One job for each grain, since a job has one set of partitions, and one for the report."""
    grains = {"models": "model", "organisms": "organism", "cells": "cell"}
    steps = [step for step in STUDY_STEPS if step.wanted(study)]
    jobs = [
        dg.define_asset_job(
            name,
            selection=[step.name for step in steps if step.grain == grain],
            description=f"Makes what is missing of the steps of each {grain}.",
        )
        for name, grain in grains.items()
    ]
    return [*jobs, dg.define_asset_job("report", selection=["study_report"], description="Writes the study's report.")]


def check_specs(step: Step, partitions: dg.PartitionsDefinition | None = None) -> list[dg.AssetCheckSpec]:
    """What is checked of a step."""
    return [
        dg.AssetCheckSpec(
            check.name,
            asset=step.name,
            blocking=check.blocking,
            description=check.description,
            partitions_def=partitions,
        )
        for check in step.checks
    ]


def severity(check: Check) -> dg.AssetCheckSeverity:
    """How bad it is where it fails."""
    return dg.AssetCheckSeverity.WARN if check.warns else dg.AssetCheckSeverity.ERROR


def _asset(step: Step, partitions: Partitions) -> dg.AssetsDefinition:
    study = partitions.study

    @dg.asset(
        name=step.name,
        description=step.description,
        partitions_def=partitions.of_grain(step.grain),
        deps=[_dependency(step, name, partitions) for name in step.after],
        group_name=GROUP,
        kinds=set(step.kinds),
        owners=OWNERS,
        code_version=str(step.version),
        backfill_policy=_backfill(step, study),
        check_specs=check_specs(step),
        **ON_DEVICE,
    )
    def made(
        context: dg.AssetExecutionContext,
        artifacts: ArtifactStoreResource,
        accelerator: AcceleratorResource,
        tracking: TrackingResource,
    ) -> dg.MaterializeResult:
        asked = [partitions.key_of(step.grain, partition) for partition in context.partition_keys]
        keys = [key for key in asked if step.applies(study, key)]
        for key in asked:
            if key not in keys:
                context.add_asset_metadata({"made": "none: it does not apply here"}, partition_key=partition_key(key))
        try:
            runs = tracking.open(study.name) if step.track else None
            store = artifacts.open()
            shared = Context(store, study)
            found: dict[Any, Artifacts] = {}

            def publish(outcome: Outcome) -> None:
                key = outcome.key
                found[key] = step.find(store, study, key)
                shown = step.show(shared, key, found[key]) | _about(outcome, found[key])
                metadata = as_metadata(shown)
                if step.track is not None:
                    run = runs.record(step.track(shared, key, found[key]), context.run_id)
                    metadata["mlflow"] = dg.MetadataValue.url(runs.url(run))
                context.add_asset_metadata(metadata, partition_key=partition_key(key))

            workers = accelerator.open(store.root)
            together = [key for key in keys if is_launched(step, study, key)]
            alone = [key for key in keys if key not in together]
            # Where a launch needs what is made here, or the other way round, the other is of an earlier wave.
            for wave in in_waves(study, keys) or [[]]:
                if (here := [key for key in wave if key in alone]) or not together:
                    workers.make(step.name, study, here, publish)
                if launched := [key for key in wave if key in together]:
                    make_launched(context, step, study, launched, store, workers, publish)
        except UserError as error:
            # A mistake that a person can mend is shown as such, without a traceback.
            raise dg.Failure(description=str(error), allow_retries=False) from error
        return dg.MaterializeResult(check_results=[_judged(check, shared, found) for check in step.checks])

    return made


def _about(outcome: Outcome, made: Artifacts) -> dict[str, Any]:
    first = made[0]
    return {
        "seconds": outcome.seconds,
        "reused": outcome.reused,
        "artifact": File(first.place),
        "fingerprint": first.manifest.fingerprint,
        "host": socket.gethostname(),
        "device": first.manifest.provenance["machine"].get("device") or "cores",
    }


def _judged(check: Check, context: Context, found: dict[Any, Artifacts]) -> dg.AssetCheckResult:
    """One result for a run of many keys: in ranges a check has no partition."""
    outcomes = {key: check.judge(context, key, made) for key, made in found.items()}
    said = {str(getattr(key, "key", key)): each.text for key, each in outcomes.items() if each.text is not None}
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=all(each.passed for each in outcomes.values()),
        severity=severity(check),
        metadata=said or {"faults": "none"},
    )


def _dependency(step: Step, name: str, partitions: Partitions) -> dg.AssetDep:
    if (step_named(name).grain, step.grain) == ("model", "organism"):
        return dg.AssetDep(name, partition_mapping=partitions.model_of_organism)
    return dg.AssetDep(name)


def _backfill(step: Step, study: Study) -> dg.BackfillPolicy:
    """All partitions in one run, whose workers stay warm; on Ray a run per model, organism, or organism's cells."""
    if executor() == "ray":
        return dg.BackfillPolicy.multi_run(len(study.methods) if step.grain == "cell" else 1)
    return dg.BackfillPolicy.single_run()
