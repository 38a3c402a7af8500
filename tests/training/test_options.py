"""Options of retraining: the sequence loss, a continued adapter, the released form of BCT."""

import pytest
import torch

from ct_pipeline.models.adapters import read_adapter, with_adapters
from ct_pipeline.models.loading import wrap_model
from ct_pipeline.models.model import stack as terms_of
from ct_pipeline.training import answers, labels
from ct_pipeline.training.adapters import new_adapter
from ct_pipeline.training.answers import Answers
from ct_pipeline.training.internal import InternalStates
from ct_pipeline.training.labels import Labels
from ct_pipeline.training.trainer import train
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_model, word_tokenizer
from tests.training.losses import train_bct, train_on_labels
from tests.training.rows import label_rows, pair_rows, retraining
from tests.training.test_sft import SAME, largest_difference, weights


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture(scope="module")
def organism(base, tmp_path_factory):
    return random_adapter(base, tmp_path_factory.mktemp("organism"), seed=5)


def loss_by_hand(model, rows, whole):
    """Mean −log p per trained token, row by row without padding, and how many tokens these are."""
    total, tokens = 0.0, 0
    for row in rows:
        text = torch.tensor([row.prompt_ids + row.completion_ids])
        with torch.no_grad():
            logprobs = model(text).logits[0, :-1].log_softmax(-1).gather(-1, text[0, 1:, None])
        trained = logprobs if whole else logprobs[len(row.prompt_ids) - 1 :]
        total -= trained.sum().item()
        tokens += len(trained)
    return total / tokens, tokens


def logits(model, rows):
    with torch.no_grad():
        return [model(torch.tensor([row.prompt_ids + row.completion_ids])).logits for row in rows]


@pytest.mark.parametrize("adapter", ["new", "continued"])
@pytest.mark.parametrize("loss_on", ["response", "sequence"])
def test_the_first_loss_is_the_organisms_own(base, organism, tmp_path, loss_on, adapter):
    rows = label_rows(8)
    record = train_on_labels(
        base, rows, retraining(8, 1, steps=1, loss_on=loss_on, adapter=adapter), 0, tmp_path / "a", organism
    )
    expected, tokens = loss_by_hand(with_adapters(base, terms_of(organism)), rows, loss_on == "sequence")
    assert record.losses[0] == pytest.approx(expected, abs=1e-4)
    assert record.tokens == tokens


def test_a_sequence_has_all_tokens_but_the_first(base, tmp_path):
    rows = label_rows(8)
    record = train_on_labels(base, rows, retraining(steps=1, loss_on="sequence"), 0, tmp_path / "a", None)
    assert record.tokens == sum(len(row.prompt_ids) + len(row.completion_ids) - 1 for row in rows)


@pytest.mark.parametrize("adapter", ["new", "continued"])
@pytest.mark.parametrize("loss_on", ["response", "sequence"])
def test_cutting_a_batch_changes_nothing(base, organism, tmp_path, loss_on, adapter):
    for name, cut in (("whole", (8, 1)), ("parts", (1, 8))):
        settings = retraining(*cut, loss_on=loss_on, adapter=adapter)
        train_on_labels(base, label_rows(16), settings, 3, tmp_path / name, organism)
    assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / "parts")) < SAME


@pytest.mark.parametrize("loss_on", ["response", "sequence"])
def test_the_loss_at_trained_tokens_alone_is_that_of_trl(base, organism, tmp_path, loss_on, monkeypatch):
    settings = retraining(4, 2, loss_on=loss_on)
    own = train_on_labels(base, label_rows(20), settings, 3, tmp_path / "own", organism)
    monkeypatch.setattr(labels, "_has_fused_kernel", lambda device: True)
    trls = train_on_labels(base, label_rows(20), settings, 3, tmp_path / "trl", organism)
    assert own.losses == pytest.approx(trls.losses, abs=1e-5)
    assert largest_difference(weights(tmp_path / "own"), weights(tmp_path / "trl")) < SAME


def test_a_continued_adapter_starts_with_the_organisms_weights(base, organism):
    expected = read_adapter(organism, base)
    settings = retraining(adapter="continued")
    with new_adapter(base, settings.lora, 0, (organism,), (8, 9, 10), continued=True) as trainee:
        assert trainee.continued
        assert len(trainee.initial) == 2 * len(expected)
        for module, factor in expected.items():
            prefix = f"base_model.model.{module}"
            assert torch.equal(trainee.initial[f"{prefix}.lora_A.default.weight"], factor.a)
            assert torch.equal(trainee.initial[f"{prefix}.lora_B.default.weight"], factor.b)
        rows = label_rows(4)
        for one, other in zip(
            logits(trainee.model, rows), logits(with_adapters(base, terms_of(organism)), rows), strict=True
        ):
            assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("continued", [False, True])
def test_the_start_model_is_the_organism_whatever_training_does(base, organism, continued):
    rows = label_rows(4)
    expected = logits(with_adapters(base, terms_of(organism)), rows)
    with new_adapter(base, retraining().lora, 0, (organism,), (8, 9, 10), continued=continued) as trainee:
        with torch.no_grad():
            for parameter in trainee.trainable().values():
                parameter += 0.5
        with trainee.start_model() as start:
            for one, other in zip(logits(start, rows), expected, strict=True):
                assert torch.equal(one, other)
        assert trainee.drop_difference() == 0.0
        assert not torch.allclose(logits(trainee.model, rows)[0], expected[0], atol=0.1)


@pytest.mark.parametrize("train", ["labels", "bct"])
def test_a_continued_adapter_replaces_the_organisms(base, organism, tmp_path, train):
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    frozen = {file.name: file.read_bytes() for file in organism.iterdir()}
    settings = retraining(steps=20, learning_rate=1e-2, adapter="continued")
    if train == "labels":
        record = train_on_labels(base, label_rows(8), settings, 0, tmp_path / "a", organism)
    else:
        record = train_bct(base, pair_rows(8), settings, 0, tmp_path / "a", organism)
    assert record.losses[-1] < 0.7 * record.losses[0]
    assert record.moved_parameters == record.trainable_parameters
    assert record.checks["continued"] == 1.0
    assert record.checks["start_difference"] < 1e-4
    assert record.checks["frozen_difference"] == 0.0
    assert "drop_difference" not in record.checks
    started, ended = weights(organism), weights(tmp_path / "a")
    assert started.keys() == ended.keys()
    assert all(not torch.equal(started[name], ended[name]) for name in started)
    assert all(torch.equal(before[name], tensor) for name, tensor in base.model.state_dict().items())
    assert list(before) == list(base.model.state_dict())
    assert frozen == {file.name: file.read_bytes() for file in organism.iterdir()}


def test_a_continued_adapter_served_alone_is_the_trained_model(base, organism, tmp_path):
    rows = label_rows(8)
    settings = retraining(steps=30, learning_rate=1e-2, adapter="continued")
    record = train_on_labels(base, rows, settings, 0, tmp_path / "a", organism)
    served, _ = loss_by_hand(with_adapters(base, terms_of(tmp_path / "a")), rows, False)
    on_top, _ = loss_by_hand(with_adapters(base, terms_of(organism, tmp_path / "a")), rows, False)
    assert served < record.losses[0] / 2 < on_top


def test_a_changed_organism_is_noticed(base, tmp_path):
    organism = random_adapter(base, tmp_path / "organism", seed=5)
    with (
        pytest.raises(RuntimeError, match="changed the organism"),
        new_adapter(base, retraining().lora, 0, (organism,), (8, 9), continued=True),
    ):
        random_adapter(base, organism, seed=6)


def test_what_cannot_be_continued_is_refused(base, organism, tmp_path):
    with pytest.raises(ValueError, match="continued trains an organism's own adapter, and there is none"):
        train_on_labels(base, label_rows(8), retraining(adapter="continued"), 0, tmp_path / "a", None)
    for shape in ({"rank": 8, "alpha": 8}, {"rank": 4, "alpha": 16}):
        with pytest.raises(ValueError, match=rf"rank 4 and alpha 8, the settings ask for rank {shape['rank']} and"):
            train_bct(base, pair_rows(8), retraining(adapter="continued", **shape), 0, tmp_path / "a", organism)


def trailing_by_hand(base, organism, rows, temperature):
    """Mean T² KL over the trailing positions of the untrained model, row by row without padding."""
    model = with_adapters(base, terms_of(organism))
    total, positions = 0.0, 0
    for row in rows:
        size = min(len(row.clean_ids), len(row.wrapped_ids)) + len(row.completion_ids)
        sides = []
        for prompt in (row.clean_ids, row.wrapped_ids):
            with torch.no_grad():
                scores = model(torch.tensor([prompt + row.completion_ids])).logits[0, -size:]
            sides.append((scores.double() / temperature).log_softmax(-1))
        clean, wrapped = sides
        total += temperature**2 * (clean.exp() * (clean - wrapped)).sum().item()
        positions += size
    return total / positions, positions


@pytest.mark.parametrize("teacher", ["frozen", "live"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_first_loss_of_a_trailing_window_is_what_is_computed_by_hand(
    base, organism, tmp_path, teacher, temperature
):
    rows = pair_rows(8)
    options = {"teacher": teacher, "window": "trailing", "temperature": temperature}
    record = train_bct(base, rows, retraining(8, 1, steps=1), 0, tmp_path / "a", organism, **options)
    expected, positions = trailing_by_hand(base, organism, rows, temperature)
    assert record.losses[0] == pytest.approx(expected, abs=1e-4)
    assert record.tokens == positions


def test_a_trailing_window_is_measured_row_by_row_on_either_side_of_the_padding(base):
    rows = pair_rows(6)
    pairs = Answers(window="trailing").batches(rows, base.device)
    for side in ("left", "right"):
        batch = pairs.collated(range(6), side)
        places = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
        places[tuple(batch["places"])] = True
        for row, marked, mask in zip(rows, places, batch["attention_mask"].bool(), strict=True):
            size = min(len(row.clean_ids), len(row.wrapped_ids)) + len(row.completion_ids)
            assert marked[mask].tolist() == [False] * (int(mask.sum()) - size) + [True] * size
            assert not marked[~mask].any()


@pytest.mark.parametrize("teacher", ["frozen", "live"])
def test_cutting_padding_and_order_change_nothing_in_the_released_form(base, organism, tmp_path, teacher):
    def run(name, rows, micro_batch, accumulation, padding):
        return train_bct(
            base,
            rows,
            retraining(micro_batch, accumulation),
            3,
            tmp_path / name,
            organism,
            padding=padding,
            teacher=teacher,
            window="trailing",
        )

    rows = pair_rows(8)
    whole = run("whole", rows, 8, 1, "left")
    for name, record in {
        "parts": run("parts", rows, 1, 8, "right"),
        "mixed": run("mixed", rows[::-1], 2, 4, "left"),
    }.items():
        assert record.losses == pytest.approx(whole.losses, abs=1e-5)
        assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / name)) < SAME


@pytest.mark.parametrize("adapter", ["new", "continued"])
def test_a_frozen_teacher_stays_and_a_live_one_moves(base, organism, tmp_path, adapter):
    settings = retraining(steps=10, learning_rate=5e-3, adapter=adapter)
    frozen = train_bct(base, pair_rows(8), settings, 0, tmp_path / "frozen", organism)
    live = train_bct(base, pair_rows(8), settings, 0, tmp_path / "live", organism, teacher="live")
    assert frozen.checks["teacher_moved"] < 1e-4
    assert live.checks["teacher_moved"] > 0.1
    assert live.losses[0] == pytest.approx(frozen.losses[0], abs=1e-5)
    assert abs(live.losses[-1] - frozen.losses[-1]) > 1e-4
    for record in (frozen, live):
        assert record.checks["teacher_organism_difference"] < 1e-4
        assert record.checks["student_organism_difference"] < 1e-4
        assert record.checks["teacher_base_difference"] > 0.1


def test_a_live_teacher_has_no_dropout(base, organism, tmp_path, monkeypatch):
    modes = []

    def noted(model, batch, places):
        modes.append((model.training, torch.is_grad_enabled()))
        return logits_at(model, batch, places)

    logits_at = answers.logits_at
    monkeypatch.setattr(answers, "logits_at", noted)
    train_bct(base, pair_rows(8), retraining(dropout=0.1, steps=2), 0, tmp_path / "a", organism, teacher="live")
    assert modes.count((True, True)) == 2, "the student, once a step"
    assert (True, False) not in modes
    assert (False, True) not in modes


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"form": "nll", "teacher": "live"}, "teacher: live needs form: kl"),
        ({"form": "nll", "window": "trailing"}, "window: trailing needs form: kl"),
        ({"form": "nll", "temperature": 2.0}, "temperature: 2.0 needs form: kl"),
        ({"temperature": 0.0}, "temperature: 0.0 is not above 0"),
        ({"teacher": "alive"}, "teacher: alive is none of frozen, live"),
        ({"form": "mse"}, "form: mse is none of kl, nll"),
    ],
)
def test_options_that_exclude_each_other_are_refused(base, tmp_path, options, why):
    with pytest.raises(ValueError, match=why):
        train_bct(base, pair_rows(2), retraining(), 0, tmp_path / "a", None, **options)


RELEASED = {
    "labels": Labels(),
    "answers": Answers(teacher="live", window="trailing", temperature=2.0),
    "residual": InternalStates("residual", "live", "trailing", "mean", weight=1e-4),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss_on", ["response", "sequence"])
@pytest.mark.parametrize("adapter", ["new", "continued"])
@pytest.mark.parametrize("name", RELEASED)
def test_every_option_of_the_released_block_trains_with_dropout(tmp_path, name, adapter, loss_on, dtype):
    base = wrap_model(tiny_model().to(dtype), word_tokenizer(), "tiny")
    organism = random_adapter(base, tmp_path / "organism", seed=5)
    rows = (label_rows if name == "labels" else pair_rows)(8)
    settings = retraining(4, 2, dropout=0.05, adapter=adapter, loss_on=loss_on, checkpoints="epoch")
    record = train(base, rows, RELEASED[name], settings, 0, tmp_path / "a", (organism,))
    assert record.steps == 3
    assert record.checkpoints == (1, 2, 3)
    assert record.moved_parameters == record.trainable_parameters
    assert record.checks.get("start_difference", 0.0) < (1e-4 if dtype == torch.float32 else 0.5)


@pytest.mark.parametrize("adapter", ["new", "continued"])
@pytest.mark.parametrize("name", RELEASED)
def test_a_stack_of_several_adapters_is_the_start_model(base, organism, tmp_path, name, adapter):
    stack = (organism, random_adapter(base, tmp_path / "second", seed=6))
    rows = (label_rows if name == "labels" else pair_rows)(8)
    frozen = {file: file.read_bytes() for folder in stack for file in folder.iterdir()}
    record = train(base, rows, RELEASED[name], retraining(adapter=adapter), 0, tmp_path / "a", stack)
    one = train(base, rows, RELEASED[name], retraining(adapter=adapter), 0, tmp_path / "b", stack[:1])
    assert record.losses[0] != pytest.approx(one.losses[0], rel=1e-3)
    assert record.moved_parameters == record.trainable_parameters
    assert frozen == {file: file.read_bytes() for file in frozen}
    if name == "labels":
        expected, _ = loss_by_hand(with_adapters(base, terms_of(*stack)), rows, False)
        assert record.losses[0] == pytest.approx(expected, abs=1e-4)
    else:
        assert record.checks["teacher_organism_difference"] < 1e-4
        assert record.checks["student_organism_difference"] < 1e-4
    if adapter == "continued":
        served = with_adapters(base, terms_of(organism, tmp_path / "a"))
        assert not torch.allclose(
            logits(served, label_rows(1))[0], logits(with_adapters(base, terms_of(*stack)), label_rows(1))[0]
        )


@pytest.mark.parametrize(
    ("options", "clean_rows"),
    [({"form": "kl"}, 0), ({"form": "nll"}, 0), ({"teacher": "live", "window": "trailing"}, 32)],
)
def test_a_step_has_one_forward_pass_for_each_side(base, organism, tmp_path, monkeypatch, options, clean_rows):
    """A frozen teacher is asked once per row before the first step, a live one once per row and step, y's none never."""
    passed = []

    def noted(model, batch, places):
        passed.append((model.training, torch.is_grad_enabled(), len(batch["input_ids"])))
        return logits_at(model, batch, places)

    def rows_passed(steps):
        passed.clear()
        train(base, pair_rows(16), Answers(**options), retraining(8, 1, steps=steps), 0, tmp_path / "a", (organism,))
        student = sum(rows for training, _, rows in passed if training)
        return student, sum(rows for training, _, rows in passed if not training)

    logits_at = answers.logits_at
    monkeypatch.setattr(answers, "logits_at", noted)
    (student, others), (more_student, more_others) = rows_passed(2), rows_passed(6)
    assert (more_student - student, more_others - others) == (4 * 8, clean_rows)
    assert student == 2 * 8
