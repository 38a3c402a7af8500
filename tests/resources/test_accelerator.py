"""The resources that Dagster hands to assets: where results lie, and who works."""

import pytest
from pydantic import ValidationError

from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.runner.workers import shared_workers
from ct_pipeline.settings.errors import CannotWrite


def test_results_lie_under_the_home_folder_unless_another_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "home"))
    assert ArtifactStoreResource().root == tmp_path / "home" / "artifacts"
    assert ArtifactStoreResource(folder=str(tmp_path / "other")).root == tmp_path / "other"


def test_a_store_is_checked_when_it_is_opened(tmp_path):
    ArtifactStoreResource(folder=str(tmp_path / "new")).open()
    assert (tmp_path / "new").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="set CT_PIPELINE_HOME"):
        ArtifactStoreResource(folder=str(tmp_path / "file")).open()


def test_all_steps_of_a_process_share_the_workers_of_a_store(tmp_path):
    one = AcceleratorResource(workers=2).open(tmp_path)
    assert AcceleratorResource(workers=2).open(tmp_path) is one
    assert AcceleratorResource(workers=2).open(tmp_path / "other") is not one
    assert one.count == 2


def test_steps_use_the_workers_that_a_command_has_started(tmp_path):
    started = shared_workers(tmp_path, 3)
    assert AcceleratorResource().open(tmp_path) is started
    assert started.count == 3


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        AcceleratorResource(workers=-1)
