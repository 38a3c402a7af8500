"""A base model pretrained again: the same bit for bit, within noise elsewhere, or a sentence that says what does not fit."""

import shutil

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from ct_pipeline.commands import verify
from ct_pipeline.records.pretrained_again import pretrain_again, pretrainings, strange_pretrainings
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import base_model
from ct_pipeline.steps.step import Context
from ct_pipeline.store.ancestry import Index, trace
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.manifest import MANIFEST, Manifest
from tests.store.forging import reseal
from tests.tinyworld.settings import pretraining_settings


@pytest.fixture(scope="module")
def study(tiny_study):
    return tiny_study.model_copy(update={"pretraining": pretraining_settings(tokens=10_000, gate_accuracy=0.0)})


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    store = ArtifactStore(tmp_path_factory.mktemp("pretrained") / "artifacts")
    base_model.make(Context(store, study), "tiny")
    return store.root


@pytest.fixture
def folder(finished, study, tmp_path):
    """The artifact in a copy of the store, to forge."""
    root = shutil.copytree(finished, tmp_path / "artifacts")
    return ArtifactStore(root).folder(base_model.node(study, "tiny").address)


def chain_of(folder, study):
    return trace(Index(folder.parents[3]), base_model.node(study, "tiny").address)


def compared(folder, study):
    chain = chain_of(folder, study)
    assert chain.faults == ()
    (step,) = pretrainings(chain, study)
    return pretrain_again(study, step)


def change_weights(folder, change, **manifest_changes):
    """Changes all weights and seals the artifact again."""

    def forge(at):
        tensors = {name: change(tensor) for name, tensor in load_file(at / "model.safetensors").items()}
        save_file(tensors, at / "model.safetensors", {"format": "pt"})

    reseal(folder, forge, **manifest_changes)


def elsewhere(folder):
    """Provenance as another machine would have written it."""
    told = Manifest.from_json((folder / MANIFEST).read_text()).provenance
    return told | {"machine": told["machine"] | {"processor_model": "another"}}


def test_an_honest_one_is_the_same_bit_for_bit(folder, study):
    found = compared(folder, study)
    assert found.exact and found.same_conditions and found.faults == ()
    assert found.accuracies[0] == found.accuracies[1]
    assert found.losses[0] == pytest.approx(found.losses[1], rel=1e-5)


def test_rounding_is_allowed_between_machines_and_not_on_one(folder, study):
    change_weights(folder, lambda tensor: tensor * (1 + 1e-5))
    (fault,) = compared(folder, study).faults
    assert "the machine and all versions are those recorded" in fault
    reseal(folder, lambda _: None, provenance=elsewhere(folder))
    found = compared(folder, study)
    assert found.faults == () and not found.exact and not found.same_conditions


def test_what_is_copied_from_the_package_is_judged_by_the_machine_that_made_that(folder, study):
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    reseal(folder, lambda _: None, record=manifest.record | {"source": "packaged", "made": elsewhere(folder)})
    assert not compared(folder, study).same_conditions


def test_other_weights_are_found_on_any_machine(folder, study):
    change_weights(folder, lambda tensor: tensor * 1.3, provenance=elsewhere(folder))
    (fault,) = compared(folder, study).faults
    assert fault.startswith("the held-out loss of the recorded weights is ") and "at most 6% is noise" in fault


def test_weights_that_are_no_numbers_do_not_pass(folder, study):
    change_weights(folder, lambda tensor: torch.full_like(tensor, torch.nan), provenance=elsewhere(folder))
    assert any("the held-out loss" in fault for fault in compared(folder, study).faults)


def test_an_invented_accuracy_is_found(folder, study):
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    reseal(folder, lambda _: None, record=manifest.record | {"direct_accuracy": 0.99})
    (fault,) = compared(folder, study).faults
    assert fault.startswith("the recorded accuracy is not that of the recorded weights: 99.00% recorded, ")


def test_one_of_another_study_is_named_and_left_alone(folder, study, tiny_study):
    chain = chain_of(folder, study)
    assert strange_pretrainings(chain, study) == ()
    assert pretrainings(chain, tiny_study) == ()
    (sentence,) = strange_pretrainings(chain, tiny_study)
    assert sentence.startswith("base_model/tiny: no pretraining of study tiny: the study is another")


@pytest.fixture
def run(folder, study, monkeypatch, tmp_path):
    """`verify` of the base model, with the study it was made by or another."""
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path))

    def call(amount, by=study):
        monkeypatch.setattr(verify, "read_study", lambda path: by)
        console = Console(width=400, record=True)
        return verify.verify("base_model/tiny", amount, tmp_path, console), console.export_text()

    return call


@pytest.mark.parametrize("amount", ["one", "all"])
def test_verify_pretrains_a_base_model_that_is_named_again(run, amount):
    fits, said = run(amount)
    assert fits
    assert "Pretrained again: base_model/tiny (" in said and "every file is the recorded one, bit for bit" in said
    assert "hashes alone" not in said


def test_verify_says_what_does_not_fit(run, folder):
    change_weights(folder, lambda tensor: tensor * 1.3, provenance=elsewhere(folder))
    fits, said = run("one")
    assert not fits
    assert "does not fit base_model/tiny: the held-out loss of the recorded weights is" in said
    assert "Pretrained again" not in said


def test_verify_with_another_study_has_nothing_to_train(run, tiny_study):
    with pytest.raises(UserError, match="nothing was trained again"):
        run("all", tiny_study)
