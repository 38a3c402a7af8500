"""The code location: its lineage, what it loads, and that nothing in it can execute a stored pickle."""

import json
import os
import shutil
import subprocess
import sys

import dagster as dg
import pytest
import yaml

from ct_pipeline.assets.audits import AUDIT_ASSETS
from ct_pipeline.assets.from_steps import assets_of
from ct_pipeline.assets.metadata import as_metadata
from ct_pipeline.assets.study_report import report_asset
from ct_pipeline.definitions import RESOURCES, definitions_for, defs
from ct_pipeline.interventions.files import study_of_process
from ct_pipeline.partitions import Partitions, partition_key
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.runner.workers import Outcome
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.steps.catalog import AUDIT_STEPS, step_named
from ct_pipeline.steps.catalog import STUDY_STEPS as EVERY_STEP
from ct_pipeline.steps.shown import rows
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.assets.graph import snapshot
from tests.conftest import REPOSITORY
from tests.fakes.small_studies import stand_in

STUDY = study_of_process()[0]
ASSETS = [*assets_of(STUDY), report_asset(STUDY, STUDY)]
PARTITIONS = Partitions(STUDY)
base_model, misaligned_organism = ASSETS[:2]
study_report = ASSETS[-1]
STUDY_STEPS = [stage for stage in EVERY_STEP if stage.wanted(STUDY)]
SNAPSHOT = REPOSITORY / "tests" / "assets" / "graph.json"
HEAVY = ("torch", "transformers", "trl", "peft", "mlflow", "datasets", "vllm", "lm_eval")


def test_the_asset_graph_is_the_recorded_one():
    """To record a wanted change: CT_PIPELINE_STUDY=tests/fakes/tiny.yaml python -m tests.assets.test_definitions"""
    assert snapshot([*ASSETS, *AUDIT_ASSETS]) == json.loads(SNAPSHOT.read_text())


def test_the_definitions_are_valid():
    dg.Definitions.validate_loadable(defs)


def test_a_process_can_show_another_study_than_its_own():
    part = narrowed(STUDY, ["sycophancy", "bct"], 1)
    graph = definitions_for(part).resolve_asset_graph()
    assert graph.get(dg.AssetKey("retrained_model")).partitions_def.get_num_partitions() == len(part.cells) == 1


@pytest.mark.parametrize("module", ["ct_pipeline.definitions", "ct_pipeline.cli"])
def test_importing_the_code_location_loads_no_heavy_package(module):
    code = f"import sys, {module}; print(' '.join(sorted(set({HEAVY}) & set(sys.modules))))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_every_stage_is_an_asset_of_its_name_and_version():
    assets = {asset.key.to_user_string(): asset for asset in ASSETS}
    for stage in STUDY_STEPS:
        (spec,) = assets[stage.name].specs
        assert spec.code_version == str(stage.version)
    assert set(assets) - {stage.name for stage in STUDY_STEPS} == {"study_report"}


def test_every_stage_of_an_audit_is_an_asset_of_its_name_and_version():
    versions = {asset.key.to_user_string(): next(iter(asset.specs)).code_version for asset in AUDIT_ASSETS}
    assert versions == {stage.name: str(stage.version) for stage in AUDIT_STEPS}


def test_every_asset_says_what_it_is():
    for asset in [*ASSETS, *AUDIT_ASSETS]:
        (spec,) = asset.specs
        assert len(spec.description.split()) >= 8, spec.key


@pytest.mark.parametrize("stage", STUDY_STEPS, ids=lambda stage: stage.name)
def test_every_key_of_a_stage_has_a_partition_of_its_own_and_back(stage):
    partitions = PARTITIONS.of_grain(stage.grain).get_partition_keys()
    keys = stage.keys(STUDY)
    assert {str(partition_key(key)) for key in keys} == set(map(str, partitions))
    assert [PARTITIONS.key_of(stage.grain, str(partition_key(key))) for key in keys] == list(keys)


class RefusingIOManager(dg.IOManager):
    """Fails the run that would store or load anything by pickle."""

    def handle_output(self, context, obj):
        raise AssertionError(f"{context.asset_key} was handed to an IO manager")

    def load_input(self, context):
        raise AssertionError("something was loaded through an IO manager")


class FinishedWork:
    """Workers for whom everything is there already."""

    def make(self, stage, study, keys, on_done):
        for key in keys:
            on_done(Outcome(key, 0.0, True))


class FinishedAccelerator(AcceleratorResource):
    """Opens no process."""

    def open(self, root):
        return FinishedWork()


def materialized(asset, folder, accelerator, **how):
    resources = RESOURCES | {"artifacts": ArtifactStoreResource(folder=str(folder)), "accelerator": accelerator}
    return dg.materialize(
        [asset], resources=resources | {"io_manager": RefusingIOManager()}, raise_on_error=False, **how
    )


def failure_text(result):
    failure = next(event for event in result.all_events if event.is_step_failure)
    return failure.step_failure_data.user_failure_data.description


def test_an_asset_hands_nothing_to_an_io_manager(tmp_path):
    @dg.asset
    def with_value():
        return 1

    control = dg.materialize([with_value], resources={"io_manager": RefusingIOManager()}, raise_on_error=False)
    assert not control.success, "the refusing manager must be able to fail a run"
    made = stand_in(ArtifactStore(tmp_path), step_named("base_model").places(STUDY, "tiny")[0])
    done = materialized(base_model, tmp_path, FinishedAccelerator(), partition_key="tiny")
    assert done.success
    (event,) = done.asset_materializations_for_node("base_model")
    assert event.partition == "tiny"
    assert event.metadata["fingerprint"].value == made.manifest.fingerprint
    assert event.metadata["reused"].value is True


def test_a_range_whose_ends_are_swapped_fails_instead_of_doing_nothing(tmp_path):
    swapped = {
        "dagster/asset_partition_range_start": "tiny-sycophancy-42",
        "dagster/asset_partition_range_end": "tiny-sycophancy-40",
    }
    done = materialized(misaligned_organism, tmp_path, AcceleratorResource(), tags=swapped)
    assert not done.success
    assert "no keys to make" in failure_text(done)


def test_a_store_that_cannot_be_written_fails_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    done = materialized(base_model, tmp_path / "file", FinishedAccelerator(), partition_key="tiny")
    assert "cannot be written" in failure_text(done)
    assert "CT_PIPELINE_HOME" in failure_text(done)


def test_a_report_of_nothing_fails_in_words(tmp_path):
    done = materialized(study_report, tmp_path, FinishedAccelerator())
    assert not done.success
    assert failure_text(done)


def test_dagsters_settings_are_valid_and_notice_killed_runs(tmp_path):
    shutil.copyfile(REPOSITORY / "dagster.yaml", tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 3
        assert instance.run_retries_retry_on_asset_or_op_failure is False
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        assert not instance.telemetry_enabled


def test_every_asset_that_uses_the_machine_waits_for_its_slot():
    free = {asset.key.to_user_string() for asset in [*ASSETS, *AUDIT_ASSETS] if asset.op.pool is None}
    assert free == {"study_report"}


def test_the_settings_files_are_plain_yaml():
    for name in ("dagster.yaml", "workspace.yaml"):
        assert isinstance(yaml.safe_load((REPOSITORY / name).read_text()), dict)


def test_a_stage_is_found_by_its_name():
    assert step_named("evaluation").grain == "cell"
    with pytest.raises(KeyError):
        step_named("evaluations")


def test_a_narrowed_study_has_fewer_partitions():
    code = (
        "from ct_pipeline.interventions.files import study_of_process; from ct_pipeline.partitions import Partitions; "
        "study = study_of_process()[0]; print(*Partitions(study).organisms.get_partition_keys(), len(study.cells))"
    )
    environment = os.environ | {"CT_PIPELINE_ONLY": "sycophancy,bct,null", "CT_PIPELINE_SEEDS": "2"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["tiny-sycophancy-40", "tiny-sycophancy-41", "4"]


def test_a_table_without_rows_is_a_word_not_an_error():
    shown = as_metadata({"none": rows([]), "one": rows([{"a": 1}])})
    assert shown["none"].value == "none"
    assert [record.data for record in shown["one"].records] == [{"a": 1}]


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(snapshot([*ASSETS, *AUDIT_ASSETS]), indent=1, sort_keys=True) + "\n")
