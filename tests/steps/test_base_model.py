"""The tiny world's base model as an artifact: a copy of the packaged one, or pretrained here."""

import shutil

import pytest

from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import base_model
from ct_pipeline.steps.step import Context
from ct_pipeline.store.manifest import MANIFEST, Manifest
from ct_pipeline.store.node import find
from ct_pipeline.tinyworld import packaged
from tests.tinyworld.settings import pretraining_settings

RELEASED = "4e226acd9f7fdd5fd4fa"
"""The default world's base model in every store since it has been called tiny."""


def made(store, study, steps=None, model="tiny"):
    told = [] if steps is None else steps
    return base_model.make(Context(store, study, 1, lambda *step: told.append(step)), model)


def with_pretraining(study, **changes):
    return study.model_copy(update={"pretraining": pretraining_settings(gate_accuracy=0.0, **changes)})


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The packaged model in a folder that may be changed."""
    monkeypatch.setattr(packaged, "FOLDER", shutil.copytree(packaged.FOLDER, tmp_path / "package"))
    return packaged.FOLDER


def test_the_default_worlds_is_the_packaged_one_at_its_old_place_and_says_so(tiny_study, store):
    steps = []
    artifact = made(store, tiny_study, steps)
    shipped = Manifest.from_json((packaged.FOLDER / MANIFEST).read_text())
    assert steps == []
    assert artifact.manifest.fingerprint == RELEASED
    assert artifact.digest == shipped.digest
    assert find(store, base_model.node(tiny_study, "tiny")).folder == artifact.folder
    assert artifact.record["source"] == "packaged"
    assert artifact.record["command"].startswith("python -m ct_pipeline.tinyworld.packaged ")
    assert artifact.record["made"] == shipped.provenance
    assert artifact.record["losses"] == shipped.record["losses"]


def test_it_may_be_called_otherwise(tiny_study, store):
    study = tiny_study.model_copy(update={"models": {"small": tiny_study.models["tiny"]}})
    artifact = made(store, study, model="small")
    assert artifact.record["source"] == "packaged"


def test_any_other_is_pretrained_here(tiny_study, store):
    steps = []
    artifact = made(store, with_pretraining(tiny_study, tokens=2_000), steps)
    assert len(steps) == artifact.record["steps"] == len(artifact.record["losses"]) > 0
    assert artifact.record["threads"] == 1
    assert "source" not in artifact.record and "made" not in artifact.record


def test_here_pretrains_what_the_package_has(tiny_study, store, monkeypatch, tmp_path):
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "package")
    study = with_pretraining(tiny_study, tokens=2_000)
    packaged.package(study.world, study.pretraining, 1, "the command", packaged.FOLDER)
    taken, pretrained = [], []
    copy = made(store, study, taken)
    here = made(store, with_pretraining(tiny_study, tokens=2_000, source="here"), pretrained)
    assert copy.record["source"] == "packaged" and taken == []
    assert len(pretrained) == here.record["steps"] and "source" not in here.record
    assert here.digest == copy.digest and here.manifest.fingerprint != copy.manifest.fingerprint


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_packaged_file_is_named_in_one_sentence_and_nothing_is_made(tiny_study, store, package, name):
    content = bytearray((package / name).read_bytes())
    content[len(content) // 2] ^= 1
    (package / name).write_bytes(content)
    with pytest.raises(UserError) as refused:
        made(store, tiny_study)
    assert f"the package is damaged: {package}: {name} was changed" in str(refused.value)
    assert str(refused.value).endswith("set pretraining.source to here")
    assert find(store, base_model.node(tiny_study, "tiny")) is None


def test_a_packaged_file_that_is_gone_is_named(tiny_study, store, package):
    (package / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"not those of its manifest: \['model\.safetensors'\]"):
        made(store, tiny_study)


def test_the_gate_is_held_for_what_is_pretrained_here(tiny_study, store):
    study = tiny_study.model_copy(update={"pretraining": pretraining_settings(tokens=2_000)})
    with pytest.raises(UserError, match=r"direct questions are answered rightly, 95% are required: raise"):
        made(store, study)
