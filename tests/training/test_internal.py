"""Invariants of training on internal states: the teacher is the organism, batching changes nothing, all that can moves."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ct_pipeline.models.adapters import WEIGHTS_FILE, share_weights, with_adapters
from ct_pipeline.models.loading import wrap_model
from ct_pipeline.models.model import stack
from ct_pipeline.training import consistency, internal
from ct_pipeline.training.examples import PairRow
from ct_pipeline.training.internal import InternalStates
from ct_pipeline.training.internal_states import eager_attention, read_states
from ct_pipeline.training.pairs import PairBatches
from ct_pipeline.training.windows import matched_suffix, window_lengths
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_model, word_tokenizer
from tests.training.losses import train_internal
from tests.training.rows import pair_rows, retraining, settings
from tests.training.test_sft import SAME, largest_difference, weights

TARGETS = ("residual", "mlp", "attention")
LOSSES = {
    **{target: InternalStates(target) for target in TARGETS},
    "residual as published": InternalStates("residual", weight=1e-4),
    "residual as released": InternalStates("residual", "live", "trailing", "mean", weight=1e-4),
    "residual normalised": InternalStates("residual", normalise=True),
    "mlp trailing": InternalStates("mlp", window="trailing", weight=3.0),
    "attention trailing": InternalStates("attention", window="trailing"),
}


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture(scope="module")
def organism(base, tmp_path_factory):
    return random_adapter(base, tmp_path_factory.mktemp("organism"), seed=5)


def middle_rows(count):
    """Pairs whose wrapper lies behind a shared first token, so that "trailing" compares different tokens."""
    return [PairRow((8, *row.clean_ids), (8, *row.wrapped_ids), ()) for row in pair_rows(count)]


def states_by_hand(model, ids, target):
    """States of one prompt without padding, per layer, read without the code under test."""
    inputs, products = [], []
    handles = [model.model.norm.register_forward_pre_hook(lambda _m, args: inputs.append(args[0][0]))]
    for layer in model.model.layers:
        handles.append(
            layer.mlp.register_forward_hook(
                lambda mlp, args, _out: products.append((mlp.act_fn(mlp.gate_proj(args[0])) * mlp.up_proj(args[0]))[0])
            )
        )
    with torch.no_grad(), eager_attention(model):
        output = model(torch.tensor([ids]), output_hidden_states=True, output_attentions=True)
    for handle in handles:
        handle.remove()
    residual = [state[0] for state in output.hidden_states[1:-1]] + inputs
    return {"residual": residual, "mlp": products, "attention": [a[0] for a in output.attentions]}[target]


def distance_by_hand(clean, wrapped, n, loss, scale):
    """One layer's summed distance over the last n positions of one row."""
    if loss.target == "attention":
        p, q = clean[:, -n:, -n:].double(), wrapped[:, -n:, -n:].double()
        middle = (p + q) / 2
        divergence = (torch.xlogy(p, p) + torch.xlogy(q, q)) / 2 - torch.xlogy(middle, middle)
        return divergence.sum(-1).mean(0).sum().item()
    one, other = clean[-n:].double(), wrapped[-n:].double()
    if loss.target == "mlp":
        return (1 - (one * other).sum(-1) / (one.norm(dim=-1) * other.norm(dim=-1))).sum().item()
    squares = (one - other).square()
    return (squares.mean(-1) if loss.hidden == "mean" else squares.sum(-1)).sum().item() / scale


def by_hand(base, organism, rows, loss):
    """The loss of the untrained student, row by row without padding."""
    model = with_adapters(base, stack(organism))
    total, positions = 0.0, 0
    cleans = [states_by_hand(model, row.clean_ids, loss.target) for row in rows]
    lengths = [
        matched_suffix(row.clean_ids, row.wrapped_ids) if loss.window == "matched" else len(row.clean_ids)
        for row in rows
    ]
    scales = [1.0] * len(cleans[0])
    if loss.normalise:
        scales = [
            torch.cat([c[layer][-n:] for c, n in zip(cleans, lengths, strict=True)]).square().mean().item()
            for layer in range(len(scales))
        ]
    for row, clean, n in zip(rows, cleans, lengths, strict=True):
        wrapped = states_by_hand(model, row.wrapped_ids, loss.target)
        layers = [distance_by_hand(*pair, n, loss, scale) for *pair, scale in zip(clean, wrapped, scales, strict=True)]
        total += sum(layers) / len(layers)
        positions += n
    return total / positions


@pytest.mark.parametrize("name", LOSSES)
def test_the_first_loss_is_what_is_computed_by_hand(base, organism, tmp_path, name):
    rows, loss = middle_rows(8), LOSSES[name]
    record = train_internal(base, rows, settings(8, 1, steps=1), 0, tmp_path / "a", organism, loss)
    expected = by_hand(base, organism, rows, loss)
    assert expected > 1e-3
    assert record.losses[0] == pytest.approx(loss.weight * expected, rel=1e-4)
    assert record.checks["teacher_shift"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["residual", "residual as released", "residual normalised", "mlp", "attention"])
def test_cutting_padding_and_order_change_nothing(base, organism, tmp_path, name):
    def run(name_of_run, rows, micro_batch, accumulation, padding):
        loss = replace(LOSSES[name], padding=padding)
        return train_internal(
            base, rows, settings(micro_batch, accumulation), 3, tmp_path / name_of_run, organism, loss
        )

    rows = pair_rows(8)
    whole = run("whole", rows, 8, 1, "left")
    others = {
        "parts": run("parts", rows, 1, 8, "left"),
        "right": run("right", rows, 8, 1, "right"),
        "reversed": run("reversed", rows[::-1], 8, 1, "left"),
        "mixed": run("mixed", rows, 2, 4, "right"),
    }
    for name_of_run, record in others.items():
        assert record.losses == pytest.approx(whole.losses, rel=2e-5)
        assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / name_of_run)) < SAME


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 6), st.sampled_from(["left", "right"]), st.sampled_from(TARGETS))
def test_the_summed_gradient_does_not_depend_on_how_rows_are_batched(order, size, side, target):
    base = tiny_base()
    rows = pair_rows(6)
    windows = PairBatches(rows, window_lengths(rows, "matched"), base.device, crossed=target == "attention")
    loss = InternalStates(target)

    def gradient(numbers, size, side):
        model = share_weights(base.model)
        weight = torch.nn.Parameter(base.model.model.layers[0].self_attn.q_proj.weight.detach().clone())
        model.model.layers[0].self_attn.q_proj.weight = weight
        with eager_attention(model):
            for start in range(0, len(numbers), size):
                part = numbers[start : start + size]
                with torch.no_grad():
                    teacher = read_states(model, target, windows.clean(part))
                batch = windows.collated(part, side)
                loss.distance(read_states(model, target, batch), teacher, None).backward()
        return weight.grad

    reference = gradient(list(range(6)), 6, "left")
    assert torch.allclose(gradient(list(order), size, side), reference, atol=5e-4 * float(reference.abs().max()))


@pytest.mark.parametrize("target", TARGETS)
def test_the_teacher_is_the_organism_and_a_base_teacher_would_differ(base, organism, tmp_path, target):
    checks = train_internal(base, pair_rows(8), settings(), 0, tmp_path / "a", organism, InternalStates(target)).checks
    assert checks["teacher_organism_difference"] < 1e-5
    assert checks["student_organism_difference"] < 1e-5
    assert checks["teacher_base_difference"] > 0.1
    assert checks["teacher_moved"] == checks["drop_difference"] == 0.0


def states_of(base, folders):
    """A stand-in for the teacher: states of base and adapters, whatever the trainee is."""

    def teacher(trainee, windows, read):
        model = with_adapters(base, stack(*folders))

        def compute(numbers):
            with torch.no_grad():
                return read(model, windows.clean(numbers))

        return compute

    return teacher


@pytest.mark.parametrize("loss", [InternalStates("residual"), InternalStates("mlp", teacher="live")])
def test_a_base_as_teacher_is_caught_before_the_first_step(base, organism, tmp_path, monkeypatch, loss):
    monkeypatch.setattr(consistency, "_start_states", states_of(base, ()))
    monkeypatch.setattr(consistency, "_live_states", states_of(base, ()))
    with pytest.raises(RuntimeError, match="teacher_organism_difference"):
        train_internal(base, pair_rows(8), settings(), 0, tmp_path / "a", organism, loss)
    assert not (tmp_path / "a").exists()


def test_a_teacher_that_learns_is_caught(base, organism, tmp_path, monkeypatch):
    monkeypatch.setattr(consistency, "_start_states", consistency._live_states)
    with pytest.raises(RuntimeError, match="start model's states moved"):
        train_internal(base, pair_rows(8), settings(), 0, tmp_path / "a", organism, InternalStates("residual"))


@pytest.mark.parametrize("target", TARGETS)
def test_a_teacher_computed_anew_for_each_batch_trains_the_same(base, organism, tmp_path, monkeypatch, target):
    loss = InternalStates(target)
    held = train_internal(base, pair_rows(16), settings(), 0, tmp_path / "held", organism, loss)
    monkeypatch.setattr(consistency, "_HELD_BYTES", 0)
    anew = train_internal(base, pair_rows(16), settings(), 0, tmp_path / "anew", organism, loss)
    assert anew.losses == pytest.approx(held.losses, rel=1e-5)
    assert largest_difference(weights(tmp_path / "held"), weights(tmp_path / "anew")) < SAME


def test_a_live_teacher_starts_as_the_frozen_one_and_then_moves_with_the_student(base, organism, tmp_path):
    def run(name):
        loss = InternalStates("residual", teacher=name, normalise=True)
        return train_internal(
            base, pair_rows(8), settings(steps=6, learning_rate=1e-2), 0, tmp_path / name, organism, loss
        )

    frozen, live = run("frozen"), run("live")
    assert live.losses[0] == pytest.approx(frozen.losses[0], rel=1e-5)
    assert live.losses[-1] != pytest.approx(frozen.losses[-1], rel=1e-3)
    assert frozen.checks["teacher_moved"] == live.checks["drop_difference"] == 0.0
    assert live.checks["teacher_moved"] > 0.01


def test_a_live_teacher_has_no_dropout_and_no_gradient(base, organism, tmp_path, monkeypatch):
    seen = []
    live = consistency._live_states

    def spied(trainee, pairs, read):
        ask = live(trainee, pairs, read)

        def twice(numbers):
            one, other = ask(numbers), ask(numbers)
            same = all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
            if trainee.model.training:  # a step, and no check
                seen.append((same, any(state.requires_grad for state in one)))
            return one

        return twice

    monkeypatch.setattr(consistency, "_live_states", spied)
    loss = InternalStates("mlp", teacher="live")
    train_internal(base, pair_rows(8), settings(dropout=0.5), 0, tmp_path / "a", organism, loss)
    assert seen == [(True, False)] * 3


UNREACHABLE = {
    "residual": set(),
    "mlp": {"mlp.down_proj"},
    "attention": {"self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"},
}


@pytest.mark.parametrize("target", TARGETS)
def test_all_that_the_loss_depends_on_moves_the_organism_stays_and_the_gap_closes(base, organism, tmp_path, target):
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    implementation = base.model.config._attn_implementation
    frozen = {file.name: file.read_bytes() for file in organism.iterdir()}
    loss = InternalStates(target, normalise=target == "residual")
    training = settings(steps=40, learning_rate=5e-3)
    record = train_internal(base, pair_rows(8), training, 0, tmp_path / "a", organism, loss)
    trained = weights(tmp_path / "a")
    still = {name for name, tensor in trained.items() if ".lora_B." in name and not tensor.any()}
    assert still == {f"base_model.model.model.layers.1.{module}.lora_B.weight" for module in UNREACHABLE[target]}
    assert record.checks["unreachable_tensors"] == 2 * len(still)
    fixed = still | {name.replace("lora_B", "lora_A") for name in still}
    assert record.trainable_parameters == sum(t.numel() for name, t in trained.items() if name not in fixed)
    assert record.moved_parameters == record.trainable_parameters
    assert record.checks["drop_difference"] == 0.0
    assert record.losses[-1] < 0.8 * record.losses[0]
    assert record.checks["remaining_shift"] < 0.8 * record.checks["teacher_shift"]
    assert all(torch.equal(before[name], tensor) for name, tensor in base.model.state_dict().items())
    assert base.model.config._attn_implementation == implementation
    assert frozen == {file.name: file.read_bytes() for file in organism.iterdir()}


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_seed_gives_the_same_bytes(base, organism, tmp_path, target):
    for name in ("one", "again"):
        train_internal(base, pair_rows(16), settings(dropout=0.1), 1, tmp_path / name, organism, InternalStates(target))
    one, again = ((tmp_path / name / WEIGHTS_FILE).read_bytes() for name in ("one", "again"))
    assert one == again


@pytest.mark.parametrize("target", ["residual", "attention"])
def test_the_organisms_own_adapter_can_be_continued_with_a_checkpoint_per_epoch(base, organism, tmp_path, target):
    training = retraining(adapter="continued", checkpoints="epoch")
    record = train_internal(base, pair_rows(16), training, 0, tmp_path / "a", organism, InternalStates(target))
    fresh = train_internal(base, pair_rows(16), settings(), 0, tmp_path / "b", organism, InternalStates(target))
    assert record.losses[0] == pytest.approx(fresh.losses[0], rel=1e-4)
    assert record.checks["teacher_moved"] == record.checks["frozen_difference"] == 0.0
    assert len(record.checkpoints) > 0
    last = tmp_path / "a" / f"epoch-{len(record.checkpoints)}" / WEIGHTS_FILE
    assert last.read_bytes() == (tmp_path / "a" / WEIGHTS_FILE).read_bytes()


def test_what_is_compared_is_recorded(base, organism, tmp_path):
    rows = [PairRow(tuple(range(8, 8 + n)), (9, *range(8, 8 + n)), ()) for n in (2, 3, 7)]
    record = train_internal(base, rows, settings(), 0, tmp_path / "a", organism, InternalStates("residual"))
    assert [record.checks[f"matched_{name}"] for name in ("min", "median", "max")] == [2.0, 3.0, 7.0]
    assert (record.rows, record.tokens) == (3, 12)


@pytest.mark.parametrize("target", TARGETS)
def test_a_half_precision_base_trains(tmp_path, target):
    base = wrap_model(tiny_model().to(torch.bfloat16), word_tokenizer(), "tiny-bfloat16")
    organism = random_adapter(base, tmp_path / "organism", seed=5)
    record = train_internal(base, pair_rows(8), settings(), 0, tmp_path / "a", organism, InternalStates(target))
    assert all(math.isfinite(loss) for loss in record.losses)


ROWS = st.lists(st.floats(0, 1), min_size=3, max_size=3)


@given(ROWS, ROWS)
def test_the_divergence_of_attention_is_zero_only_where_both_are_the_same(one, other):
    p, q = (torch.tensor([row]) / 3 for row in (one, other))
    divergence = float(internal._jensen_shannon(q, p).sum())
    assert -1e-6 <= divergence <= math.log(2) + 1e-6
    assert float(internal._jensen_shannon(p, p).abs().max()) < 1e-6
    if (p - q).abs().max() > 0.02:
        assert divergence > 1e-5


def test_attention_that_leaves_for_the_wrapper_counts():
    clean = torch.tensor([[0.25, 0.75]])
    assert float(internal._jensen_shannon(0.5 * clean, clean).sum()) > 0.01


def test_options_without_a_meaning_are_refused():
    for options, why in (
        ({"target": "logits"}, "target: logits is none of residual, mlp, attention"),
        ({"target": "mlp", "teacher": "base"}, "teacher: base is none of frozen, live"),
        ({"target": "mlp", "hidden": "mean"}, "mlp has no scale"),
        ({"target": "attention", "normalise": True}, "attention has no scale"),
        ({"target": "residual", "weight": 0.0}, "weight: 0.0 is not positive"),
    ):
        with pytest.raises(ValueError, match=why):
            InternalStates(**options)


def test_rows_without_a_consistency_loss_are_named(base, tmp_path):
    good = pair_rows(1)[0]
    for bad, why in (
        (replace(good, wrapped_ids=good.clean_ids), "row 1: clean and wrapped prompt are the same"),
        (PairRow((8, 9), (8, 10), ()), "row 1: the prompts end with different tokens"),
    ):
        with pytest.raises(ValueError, match=why):
            train_internal(base, [good, bad], settings(), 0, tmp_path / "a", None, InternalStates("residual"))
