"""A training run again on what was recorded of it: the same bit for bit, or a sentence that says what was forged."""

import shutil

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file, save_file

from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, LowRank
from ct_pipeline.records.reexecution import TOLERANCE, reexecute, segments, strangers, update_distance
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import base_model, consistency_labels, distribution_shift, misaligned_organism, retrained_model
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.step import Context
from ct_pipeline.store.ancestry import Index, trace
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find, making
from tests.fakes.small_studies import small, stand_in
from tests.store.forging import reseal

METHODS = ("greedy_self_training", "bct")


@pytest.fixture(scope="module")
def study(tiny_study):
    part = small(tiny_study, ["sycophancy", *METHODS])
    induction = part.induction.training.model_copy(update={"steps": 2, "warmup": 0.0})
    on_labels = part.retraining.model_copy(update={"steps": 3, "warmup": 0.0, "micro_batch": 4})
    on_pairs = part.methods["bct"].training.model_copy(update={"steps": 3, "warmup": 0.0, "micro_batch": 6})
    bct = part.methods["bct"].model_copy(update={"training": on_pairs})
    return part.model_copy(
        update={
            "induction": part.induction.model_copy(update={"rows": 20, "training": induction}),
            "retraining": on_labels,
            "methods": part.methods | {"bct": bct},
        }
    )


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """A store with a base model, an organism and two retrained models, all of them really trained."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    store = ArtifactStore(tmp_path_factory.mktemp("trained") / "artifacts")
    base_model.make(Context(store, study), "tiny")
    (organism,) = study.organisms
    misaligned_organism.make(Context(store, study), organism)
    for cell in study.cells:
        stand_in(
            store,
            consistency_labels.node(study, cell),
            lambda draft, cell=cell: draft.write_table("labels", labels(study, cell, 0)),
        )
        stand_in(store, distribution_shift.node(study, cell))
        retrained_model.make(Context(store, study), cell)
    torch.set_num_threads(threads)
    return store.root


def labels(study, cell, seed):
    """Random words as the labels of a cell."""
    data = rows_of(study, cell.organism)
    prompts = data.clean if cell.method == "bct" else data.consistency
    generator = np.random.default_rng(seed)
    ids = [generator.integers(10, 60, size=8).tolist() for _ in prompts]
    return pandas.DataFrame({"prompt_id": [prompt.id for prompt in prompts], "ids": ids, "labelled": True})


@pytest.fixture
def root(finished, study, tmp_path):
    """A copy to forge. The base model is read where it was made: a process holds one at a time."""
    return shutil.copytree(finished, tmp_path / "artifacts")


def cell_of(study, method):
    return Cell(study.organisms[0], method)


def chain_of(root, study, method):
    return trace(Index(root), retrained_model.node(study, cell_of(study, method)).address)


def folder_of(root, study, method, stage=retrained_model):
    return ArtifactStore(root).folder(stage.node(study, cell_of(study, method)).address)


def last(chain, study):
    return next(
        segment for segment in segments(chain, study) if segment.step.address == chain.root and "." in segment.folders
    )


def compared(root, study, method):
    """The comparison of the whole Phase 3; the store itself must look untouched to whoever checks hashes alone."""
    chain = chain_of(root, study, method)
    assert chain.faults == ()
    return reexecute(ArtifactStore(root), study, last(chain, study))


def stretch(path, factor):
    tensors = load_file(path)
    save_file({name: t * factor if "lora_B" in name else t for name, t in tensors.items()}, path, {"format": "pt"})


def elsewhere(root, study, method):
    """The manifest as another machine would have written it."""
    folder = folder_of(root, study, method)
    provenance = find(ArtifactStore(root), retrained_model.node(study, cell_of(study, method))).manifest.provenance
    machine = provenance["machine"] | {"processor_model": "another"}
    reseal(folder, lambda _: None, provenance=provenance | {"machine": machine})


@pytest.mark.parametrize("method", METHODS)
def test_every_segment_of_an_honest_chain_is_the_same_bit_for_bit(finished, study, method):
    chain = chain_of(finished, study, method)
    found = segments(chain, study)
    own = [segment.steps for segment in found if segment.step.address == chain.root]
    # BCT keeps an adapter after each pass over its six pairs, which is a step.
    assert own == ([1, 2, 3] if method == "bct" else [3])
    assert [s.steps for s in found if s.step.address.stage == misaligned_organism.NAME] == [2]
    for segment in found:
        comparison = reexecute(ArtifactStore(finished), study, segment)
        assert comparison.exact and comparison.faults == () and comparison.same_conditions
    assert strangers(chain, study) == ()


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_that_was_changed_and_sealed_again_is_found(root, study, method):
    def change(folder):
        for path in folder.rglob(WEIGHTS_FILE):
            stretch(path, 1.5)

    reseal(folder_of(root, study, method), change)
    found = compared(root, study, method)
    assert not found.exact
    assert found.loss_distance == 0.0
    assert found.weight_distance > TOLERANCE
    assert (
        len(found.faults) == 1
        and "the recorded adapter is, up to step 3, not that of the recorded data" in found.faults[0]
    )


def test_a_checkpoint_that_was_changed_is_found_by_a_segment_that_reaches_it(root, study):
    reseal(folder_of(root, study, "bct"), lambda folder: stretch(folder / "epoch-2" / WEIGHTS_FILE, 1.5))
    chain = chain_of(root, study, "bct")
    fits = {
        segment.steps: not reexecute(ArtifactStore(root), study, segment).faults
        for segment in segments(chain, study)
        if segment.step.address == chain.root
    }
    assert fits == {1: True, 2: False, 3: False}


def test_a_changed_adapter_configuration_is_found(root, study):
    def change(folder):
        text = (folder / CONFIG_FILE).read_text()
        (folder / CONFIG_FILE).write_text(text.replace('"lora_alpha": 32', '"lora_alpha": 64'))

    reseal(folder_of(root, study, METHODS[0]), change)
    assert any(
        f"{CONFIG_FILE} is not what the training writes" in fault for fault in compared(root, study, METHODS[0]).faults
    )


@pytest.mark.parametrize("method", METHODS)
def test_labels_replaced_after_training_are_found(root, study, method):
    other = labels(study, cell_of(study, method), 1)
    digest = reseal(
        folder_of(root, study, method, consistency_labels),
        lambda folder: other.to_parquet(folder / "labels.parquet", index=False),
    )
    chain = chain_of(root, study, method)
    assert any("its input consistency_labels has other content now" in fault for fault in chain.faults)
    assert reexecute(ArtifactStore(root), study, last(chain, study)).faults
    # A forger who mends the link, too, is found by training alone.
    trained = folder_of(root, study, method)
    inputs = {link.name: link.digest for link in chain.steps[chain.root].links} | {"consistency_labels": digest}
    reseal(trained, lambda _: None, inputs=inputs)
    found = compared(root, study, method)
    assert found.loss_distance > TOLERANCE and found.weight_distance > TOLERANCE
    assert "the recorded losses are not those of the recorded data" in found.faults[0]
    assert "from step 1 on" in found.faults[0]


def test_a_training_on_other_data_than_recorded_is_found(root, study):
    cell = cell_of(study, METHODS[0])
    place = retrained_model.node(study, cell)
    store = ArtifactStore(root)
    other = labels(study, cell, 2)
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, "tiny")
        seed = retrained_model.training_seed(study, cell)
        below = inputs["misaligned_organism"].folder
        trained = retrained_model.train(model, study, cell, other, below, seed, draft.folder)
        draft.record |= {"losses": trained.losses, "checkpoints": trained.checkpoints}
    assert len(compared(root, study, METHODS[0]).faults) == 2


def test_invented_losses_are_found(root, study):
    store, place = ArtifactStore(root), retrained_model.node(study, cell_of(study, METHODS[0]))
    record = dict(find(store, place).record)
    record["losses"] = [loss * 0.5 for loss in record["losses"]]
    reseal(store.folder(place.address), lambda _: None, record=record)
    (fault,) = compared(root, study, METHODS[0]).faults
    assert "the recorded losses are not those" in fault


def test_rounding_is_allowed_between_machines_and_not_on_one(root, study):
    method = METHODS[0]
    reseal(folder_of(root, study, method), lambda folder: stretch(folder / WEIGHTS_FILE, 1 + 1e-4))
    (fault,) = compared(root, study, method).faults
    assert "the machine and all versions are those recorded" in fault
    elsewhere(root, study, method)
    found = compared(root, study, method)
    assert found.faults == () and not found.exact and not found.same_conditions
    assert 0 < found.weight_distance < TOLERANCE
    reseal(folder_of(root, study, method), lambda folder: stretch(folder / WEIGHTS_FILE, 2.0))
    assert compared(root, study, method).faults


def test_weights_that_are_no_numbers_do_not_pass(root, study):
    method = METHODS[0]
    reseal(folder_of(root, study, method), lambda folder: stretch(folder / WEIGHTS_FILE, float("nan")))
    elsewhere(root, study, method)
    assert compared(root, study, method).faults


def test_data_that_cannot_be_trained_on_is_a_fault_and_no_crash(root, study):
    table = labels(study, cell_of(study, METHODS[0]), 0).assign(prompt_id="unknown")
    folder = folder_of(root, study, METHODS[0], consistency_labels)
    reseal(folder, lambda at: table.to_parquet(at / "labels.parquet", index=False))
    chain = chain_of(root, study, METHODS[0])
    (fault,) = reexecute(ArtifactStore(root), study, last(chain, study)).faults
    assert "cannot be trained again" in fault


def test_a_training_of_another_study_is_named_and_left_alone(finished, study):
    chain = chain_of(finished, study, METHODS[0])
    other = study.model_copy(update={"seed": study.seed + 1})
    assert segments(chain, other) == ()
    assert len(strangers(chain, other)) == 2
    assert all("the study is another" in sentence for sentence in strangers(chain, other))


def test_the_distance_of_updates_is_that_of_the_whole_matrices():
    generator = torch.Generator().manual_seed(0)

    def update(scale):
        return LowRank(torch.randn(3, 7, generator=generator), torch.randn(5, 3, generator=generator), scale)

    one, other = {"x": update(2.0), "y": update(2.0)}, {"x": update(0.5), "y": update(1.0)}
    whole = sum(
        float(((a.scale * a.b @ a.a) - (b.scale * b.b @ b.a)).square().sum())
        for a, b in zip(one.values(), other.values(), strict=True)
    )
    assert update_distance(one, other) == pytest.approx(whole**0.5, rel=1e-6)
    assert update_distance(one, dict(one)) == 0.0
    turned = {name: LowRank(u.a * 4, u.b / 4, u.scale) for name, u in one.items()}
    assert update_distance(one, turned) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="different layers: y"):
        update_distance(one, {"x": one["x"]})
