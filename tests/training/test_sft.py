"""Invariants of supervised training: normalisation, stacking, reproducibility, and that something is learned."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, with_adapters
from ct_pipeline.models.loading import wrap_model
from ct_pipeline.models.model import stack
from ct_pipeline.tinyworld.shortcuts import small_model
from ct_pipeline.training import labels
from ct_pipeline.training.examples import LabelRow
from tests.fakes.tiny_models import END, random_adapter, tiny_base, tiny_model, word_tokenizer
from tests.training.losses import train_on_labels
from tests.training.rows import label_rows, settings

SAME = 2e-4
"""Largest difference of adapter weights between equal batches cut differently, after steps of 1e-3: AdamW divides by
gradients that may be as small as float32 rounding."""


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture(scope="module")
def organism(base, tmp_path_factory):
    return random_adapter(base, tmp_path_factory.mktemp("organism"), seed=5)


def weights(folder):
    return load_file(folder / WEIGHTS_FILE)


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("stacked", [False, True])
def test_one_batch_of_eight_equals_eight_batches_of_one(base, organism, tmp_path, stacked):
    below = organism if stacked else None
    whole = train_on_labels(base, label_rows(24), settings(8, 1), 3, tmp_path / "whole", below)
    parts = train_on_labels(base, label_rows(24), settings(1, 8), 3, tmp_path / "parts", below)
    mixed = train_on_labels(base, label_rows(24), settings(2, 4), 3, tmp_path / "mixed", below)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-5)
    assert mixed.losses == pytest.approx(whole.losses, abs=1e-5)
    assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / "parts")) < SAME
    assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / "mixed")) < SAME


def test_the_loss_is_minus_log_p_of_the_completion_per_token(base, tmp_path):
    rows = label_rows(8)
    record = train_on_labels(base, rows, settings(8, 1, steps=1), 0, tmp_path / "a", None)
    total, tokens = 0.0, 0
    for row in rows:
        text = torch.tensor([row.prompt_ids + row.completion_ids])
        with torch.no_grad():
            logprobs = base.model(text).logits[0, :-1].log_softmax(-1).gather(-1, text[0, 1:, None])
        total -= logprobs[len(row.prompt_ids) - 1 :].sum().item()
        tokens += len(row.completion_ids)
    assert record.losses[0] == pytest.approx(total / tokens, abs=1e-4)
    assert record.tokens == tokens


def test_what_makes_a_small_model_faster_trains_the_same(base, organism, tmp_path):
    for dropout in (0.0, 0.1):
        records, tensors = [], []
        for name, shortcuts in (("plain", nullcontext), ("fast", small_model)):
            folder = tmp_path / f"{name}-{dropout}"
            records.append(
                train_on_labels(
                    base, label_rows(24), settings(dropout=dropout), 3, folder, organism, shortcuts=shortcuts
                )
            )
            tensors.append(weights(folder))
        assert records[1].losses == pytest.approx(records[0].losses, abs=1e-5)
        same = largest_difference(*tensors)
        assert same < SAME
        assert (same == 0) == (dropout > 0), "dropout acts between the factors: they cannot be added before"


def test_the_order_of_rows_within_a_batch_does_not_matter(base, tmp_path):
    rows = label_rows(8)
    one = train_on_labels(base, rows, settings(8, 1), 0, tmp_path / "one", None)
    other = train_on_labels(base, rows[::-1], settings(8, 1), 0, tmp_path / "other", None)
    assert other.losses == pytest.approx(one.losses, abs=1e-5)
    assert largest_difference(weights(tmp_path / "one"), weights(tmp_path / "other")) < SAME


def test_every_lora_parameter_moves_and_dropping_the_adapter_restores_the_organism(base, organism, tmp_path):
    record = train_on_labels(base, label_rows(16), settings(), 0, tmp_path / "phase3", organism)
    assert record.moved_parameters == record.trainable_parameters > 0
    assert record.checks["drop_difference"] == 0.0
    assert len(record.losses) == record.steps == 3


def test_at_the_first_step_only_b_moves(base, tmp_path):
    record = train_on_labels(base, label_rows(8), settings(steps=1), 0, tmp_path / "a", None)
    moved = weights(tmp_path / "a")
    b_numbers = sum(tensor.numel() for name, tensor in moved.items() if "lora_B" in name)
    assert record.moved_parameters == b_numbers


def test_base_and_organism_are_untouched(base, organism, tmp_path):
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    frozen = {file.name: file.read_bytes() for file in organism.iterdir()}
    train_on_labels(base, label_rows(16), settings(dropout=0.1), 0, tmp_path / "phase3", organism)
    assert all(torch.equal(before[name], tensor) for name, tensor in base.model.state_dict().items())
    assert list(before) == list(base.model.state_dict()), "no adapter is left on the base"
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert frozen == {file.name: file.read_bytes() for file in organism.iterdir()}


def test_training_starts_from_the_organism_not_from_the_base(base, organism, tmp_path):
    rows = label_rows(8)
    on_base = train_on_labels(base, rows, settings(steps=1), 0, tmp_path / "a", None)
    on_organism = train_on_labels(base, rows, settings(steps=1), 0, tmp_path / "b", organism)
    assert abs(on_base.losses[0] - on_organism.losses[0]) > 0.01


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(base, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        train_on_labels(base, label_rows(16), settings(dropout=0.1), seed, tmp_path / name, None)
    one, again, other = ((tmp_path / name / WEIGHTS_FILE).read_bytes() for name in ("one", "again", "other"))
    assert one == again
    assert one != other


def test_a_saved_adapter_is_plain_and_names_no_path(base, tmp_path):
    train_on_labels(base, label_rows(8), settings(), 0, tmp_path / "a", None)
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    text = (tmp_path / "a" / CONFIG_FILE).read_text()
    assert "/" not in text
    assert json.loads(text)["base_model_name_or_path"] == "base"
    assert not any("lm_head" in name or "embed" in name for name in weights(tmp_path / "a"))


def test_the_saved_adapter_is_the_trained_model(base, organism, tmp_path):
    rows = label_rows(8)
    train_on_labels(base, rows, settings(steps=30, learning_rate=1e-2), 0, tmp_path / "a", organism)
    again = train_on_labels(base, rows, settings(steps=1), 0, tmp_path / "b", organism)
    retrained = with_adapters(base, stack(organism, tmp_path / "a"))
    text = torch.tensor([rows[0].prompt_ids + rows[0].completion_ids])
    with torch.no_grad():
        logprobs = retrained(text).logits[0, :-1].log_softmax(-1).gather(-1, text[0, 1:, None])
    learned = -logprobs[len(rows[0].prompt_ids) - 1 :].mean().item()
    assert learned < again.losses[0] / 2


def test_epochs_set_the_number_of_steps(base, tmp_path):
    record = train_on_labels(base, label_rows(20), settings(4, 2, steps=None, epochs=2), 0, tmp_path / "a", None)
    assert record.steps == 6  # 20 rows in batches of 8 are 3 steps, the last of 4 rows


def test_a_listener_hears_every_step(base, tmp_path):
    heard = []
    record = train_on_labels(
        base, label_rows(8), settings(), 0, tmp_path / "a", None, on_step=lambda *step: heard.append(step)
    )
    assert heard == [(i + 1, 3, loss) for i, loss in enumerate(record.losses)]


def test_rows_that_cannot_be_trained_on_are_named(base, tmp_path):
    good = label_rows(2)
    for bad, why in (
        (replace(good[0], completion_ids=()), "row 2: the completion is empty"),
        (replace(good[0], prompt_ids=()), "row 2: the prompt is empty"),
        (LabelRow((8,) * 60, (9,) * 4 + (END,)), "row 2: 65 tokens exceed the context window of 64"),
    ):
        with pytest.raises(ValueError, match=why):
            train_on_labels(base, [*good, bad], settings(), 0, tmp_path / "a", None)
    with pytest.raises(ValueError, match="no rows"):
        train_on_labels(base, [], settings(), 0, tmp_path / "a", None)


def test_a_tokenizer_without_padding_token_is_left_without(tmp_path, monkeypatch):
    monkeypatch.setattr(labels, "_has_fused_kernel", lambda device: True)
    tokenizer = word_tokenizer()
    tokenizer.pad_token = None
    base = wrap_model(tiny_model(), tokenizer, "unpadded")
    train_on_labels(base, label_rows(8), settings(), 0, tmp_path / "a", None)
    assert base.tokenizer.pad_token is None


def test_nothing_is_printed(base, tmp_path, capfd):
    train_on_labels(base, label_rows(8), settings(), 0, tmp_path / "a", None)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""
