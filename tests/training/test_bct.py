"""Invariants of consistency training: the teacher is the organism, and batching changes nothing."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.models.model import stack
from ct_pipeline.training import consistency
from ct_pipeline.training.answers import Answers, divergence
from ct_pipeline.training.examples import PairRow
from tests.fakes.tiny_models import END, random_adapter, tiny_base
from tests.training.losses import train_bct
from tests.training.rows import pair_rows, settings
from tests.training.test_sft import SAME, largest_difference, weights

FORMS = ("kl", "nll")


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture(scope="module")
def organism(base, tmp_path_factory):
    return random_adapter(base, tmp_path_factory.mktemp("organism"), seed=5)


def by_hand(base, organism, rows, form):
    """Mean loss per response token of the untrained student, row by row without padding."""
    model = with_adapters(base, stack(organism))
    total, tokens = 0.0, 0
    for row in rows:
        sides = []
        for prompt in (row.clean_ids, row.wrapped_ids):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + row.completion_ids])).logits[0, len(prompt) - 1 : -1]
            sides.append(logits.double().log_softmax(-1))
        clean, wrapped = sides
        if form == "kl":
            total += (clean.exp() * (clean - wrapped)).sum().item()
        else:
            total -= wrapped.gather(-1, torch.tensor(row.completion_ids)[:, None]).sum().item()
        tokens += len(row.completion_ids)
    return total / tokens


@pytest.mark.parametrize("form", FORMS)
def test_the_first_loss_is_what_is_computed_by_hand(base, organism, tmp_path, form):
    rows = pair_rows(8)
    record = train_bct(base, rows, settings(8, 1, steps=1), 0, tmp_path / "a", organism, form=form)
    assert record.losses[0] == pytest.approx(by_hand(base, organism, rows, form), abs=1e-4)
    assert record.checks["teacher_shift"] == pytest.approx(by_hand(base, organism, rows, "kl"), abs=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_cutting_padding_and_order_change_nothing(base, organism, tmp_path, form):
    def run(name, rows, micro_batch, accumulation, padding):
        return train_bct(
            base, rows, settings(micro_batch, accumulation), 3, tmp_path / name, organism, form=form, padding=padding
        )

    rows = pair_rows(8)
    whole = run("whole", rows, 8, 1, "left")
    others = {
        "parts": run("parts", rows, 1, 8, "left"),
        "right": run("right", rows, 8, 1, "right"),
        "reversed": run("reversed", rows[::-1], 8, 1, "left"),
        "mixed": run("mixed", rows, 2, 4, "right"),
    }
    for name, record in others.items():
        assert record.losses == pytest.approx(whole.losses, abs=1e-5)
        assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / name)) < SAME


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 6), st.sampled_from(["left", "right"]), st.sampled_from(FORMS))
def test_the_summed_gradient_does_not_depend_on_how_rows_are_batched(order, size, side, form):
    base = tiny_base()
    rows = pair_rows(6)
    loss = Answers(form)
    pairs = loss.batches(rows, base.device)
    parameter = base.model.model.layers[0].self_attn.q_proj.weight

    def gradient(numbers, size, side):
        weight = torch.nn.Parameter(parameter.detach().clone())
        base.model.model.layers[0].self_attn.q_proj.weight = weight
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            with torch.no_grad():
                teacher = loss.read(base.model, pairs.clean(part))
            batch = pairs.collated(part, side)
            loss.summed(loss.read(base.model, batch), teacher, batch, None).backward()
        return weight.grad

    reference = gradient(list(range(6)), 6, "left")
    assert torch.allclose(gradient(list(order), size, side), reference, atol=2e-4 * float(reference.abs().max()))


def test_the_teacher_is_the_organism_and_a_base_teacher_would_differ(base, organism, tmp_path):
    checks = train_bct(base, pair_rows(8), settings(), 0, tmp_path / "a", organism).checks
    assert checks["teacher_organism_difference"] < 1e-4
    assert checks["student_organism_difference"] < 1e-4
    assert checks["teacher_base_difference"] > 0.1


def test_a_base_as_teacher_is_caught_before_the_first_step(base, organism, tmp_path, monkeypatch):
    def base_teacher(trainee, pairs, read):
        def compute(numbers):
            with torch.no_grad():
                return read(base.model, pairs.clean(numbers))

        return compute

    monkeypatch.setattr(consistency, "_start_states", base_teacher)
    with pytest.raises(RuntimeError, match="teacher_organism_difference"):
        train_bct(base, pair_rows(8), settings(), 0, tmp_path / "a", organism)
    assert not (tmp_path / "a").exists()


def test_a_teacher_computed_anew_for_each_batch_trains_the_same(base, organism, tmp_path, monkeypatch):
    held = train_bct(base, pair_rows(16), settings(dropout=0.0), 0, tmp_path / "held", organism)
    monkeypatch.setattr(consistency, "_HELD_BYTES", 0)
    anew = train_bct(base, pair_rows(16), settings(dropout=0.0), 0, tmp_path / "anew", organism)
    assert anew.losses == pytest.approx(held.losses, abs=1e-5)
    assert largest_difference(weights(tmp_path / "held"), weights(tmp_path / "anew")) < SAME


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_moves_the_organism_stays_and_the_gap_closes(base, organism, tmp_path, form):
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    frozen = {file.name: file.read_bytes() for file in organism.iterdir()}
    rows = pair_rows(8)
    record = train_bct(base, rows, settings(steps=40, learning_rate=5e-3), 0, tmp_path / "a", organism, form=form)
    assert record.moved_parameters == record.trainable_parameters > 0
    assert record.checks["drop_difference"] == 0.0
    assert record.losses[-1] < 0.7 * record.losses[0]
    if form == "kl":
        assert record.checks["remaining_shift"] < 0.7 * record.checks["teacher_shift"]
    assert all(torch.equal(before[name], tensor) for name, tensor in base.model.state_dict().items())
    assert frozen == {file.name: file.read_bytes() for file in organism.iterdir()}


def test_the_same_seed_gives_the_same_bytes(base, organism, tmp_path):
    for name in ("one", "again"):
        train_bct(base, pair_rows(16), settings(dropout=0.1), 1, tmp_path / name, organism)
    one, again = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("one", "again"))
    assert one == again


def test_a_model_taught_by_itself_has_no_loss():
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0))
    assert divergence(logits, logits.clone(), 1.0).item() == pytest.approx(0, abs=1e-6)


def test_the_kl_form_has_the_expected_gradient_of_the_nll_form():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(1, 5, generator=generator, dtype=torch.float64)
    gradients = {}
    for form in FORMS:
        student = torch.randn(1, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
        if form == "kl":
            divergence(student, teacher, 1.0).backward()
        else:
            for token, share in enumerate(teacher.softmax(-1)[0]):
                imitated = Answers("nll").summed([student], [], {"labels": torch.tensor([[token]])}, None)
                (share * imitated).backward()
        gradients[form] = student.grad
    assert torch.allclose(gradients["kl"], gradients["nll"], atol=1e-12)


def test_rows_without_a_consistency_loss_are_named(base, tmp_path):
    good = pair_rows(1)
    for bad, why in (
        (replace(good[0], wrapped_ids=good[0].clean_ids), "row 1: clean and wrapped prompt are the same"),
        (replace(good[0], completion_ids=()), "row 1: the completion is empty"),
        (replace(good[0], clean_ids=()), "row 1: a prompt is empty"),
        (PairRow((8,), (9,) * 62, (9, 9, END)), "row 1: 65 tokens exceed the context window of 64"),
    ):
        with pytest.raises(ValueError, match=why):
            train_bct(base, [*good, bad], settings(), 0, tmp_path / "a", None)
    with pytest.raises(ValueError, match="no pairs"):
        train_bct(base, [], settings(), 0, tmp_path / "a", None)
