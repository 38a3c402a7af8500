"""How an effective batch is cut: over processes, and smaller after an out-of-memory error, with the same rows and losses."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.settings.errors import UserError
from ct_pipeline.training import loop
from ct_pipeline.training.batches import Cut, ShareOfRows, after_failures, cut_of, within_memory
from ct_pipeline.training.examples import TrainingRecord
from ct_pipeline.training.internal import InternalStates
from tests.fakes.tiny_models import random_adapter, tiny_base
from tests.training.losses import train_bct, train_internal, train_on_labels
from tests.training.rows import label_rows, pair_rows, settings
from tests.training.test_sft import largest_difference, weights

OBJECTIVES = {
    "labels": lambda *how: train_on_labels(how[0], label_rows(20), *how[1:]),
    "bct": lambda *how: train_bct(how[0], pair_rows(20), *how[1:]),
    "act": lambda *how: train_internal(how[0], pair_rows(20), *how[1:], InternalStates("mlp")),
}


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture(scope="module")
def organism(base, tmp_path_factory):
    return random_adapter(base, tmp_path_factory.mktemp("organism"), seed=5)


def memory_for(monkeypatch, most):
    """Lets a trainer's device have memory for so many rows at once; returns the sizes that it was asked for."""
    asked = []

    def limited(of_trl):
        class Limited(library(of_trl)):
            """A trainer on a small device."""

            def summed_loss(self, model, inputs):
                asked.append(len(inputs["input_ids"]))
                if asked[-1] > most:
                    raise torch.OutOfMemoryError(f"{asked[-1]} rows")
                return super().summed_loss(model, inputs)

        return Limited

    library = loop._trainer_class
    monkeypatch.setattr(loop, "_trainer_class", limited)
    return asked


@pytest.mark.parametrize("name", OBJECTIVES)
def test_too_large_micro_batches_are_halved_and_nothing_else_changes(base, organism, tmp_path, monkeypatch, name):
    train = OBJECTIVES[name]
    schedule = settings(8, 1, steps=None, epochs=2)
    whole = train(base, schedule, 3, tmp_path / "whole", organism)
    asked = memory_for(monkeypatch, 3)
    cut = train(base, schedule, 3, tmp_path / "cut", organism)
    assert asked[:2] == [8, 4]
    assert set(asked[2:]) == {2}
    assert (whole.micro_batch, whole.accumulation, whole.out_of_memory) == (8, 1, ())
    assert (cut.micro_batch, cut.accumulation, cut.out_of_memory) == (2, 4, (8, 4))
    assert cut.losses == pytest.approx(whole.losses, rel=1e-5)
    assert largest_difference(weights(tmp_path / "whole"), weights(tmp_path / "cut")) < 2e-4


def test_no_memory_for_one_row_is_said_with_what_to_do(base, organism, tmp_path, monkeypatch):
    asked = memory_for(monkeypatch, 0)
    with pytest.raises(UserError, match="no memory to train on a single row at a time: give the model more `devices`"):
        train_on_labels(base, label_rows(8), settings(4, 2), 3, tmp_path / "a", organism)
    assert asked == [4, 2, 1]


def test_other_errors_are_not_taken_for_lack_of_memory(monkeypatch):
    def fail(cut):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        within_memory(settings(4, 2), fail)


def test_in_a_launch_the_error_is_passed_on(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    seen = []

    def fail(cut):
        seen.append(cut)
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        within_memory(settings(4, 2), fail)
    assert seen == [Cut(4, 1, 2)]


def test_earlier_failures_count_inside_alone():
    cuts = []
    record = TrainingRecord((), 0, 0, 0, 0, 0, 0.0)

    def train(cut):
        cuts.append(cut)
        return record

    with after_failures([8, 4]):
        expected = replace(record, micro_batch=2, accumulation=4, out_of_memory=(8, 4))
        assert within_memory(settings(8, 1), train) == expected
    within_memory(settings(8, 1), train)
    assert cuts == [Cut(2, 4), Cut(8, 1)]


@pytest.mark.parametrize(
    ("micro_batch", "accumulation", "processes", "cut"),
    [
        (2, 8, 1, Cut(2, 8)),
        (2, 8, 4, Cut(2, 2, 4)),
        (4, 4, 8, Cut(2, 1, 8)),
        (6, 1, 2, Cut(3, 1, 2)),
        (4, 3, 2, Cut(3, 2, 2)),
    ],
)
def test_an_effective_batch_is_divided_by_the_processes(micro_batch, accumulation, processes, cut):
    assert cut_of(settings(micro_batch, accumulation), processes) == cut


def test_a_batch_that_the_processes_do_not_divide_is_refused():
    with pytest.raises(
        UserError, match=r"effective batch of 6 rows \(micro_batch 2 x accumulation 3\) cannot be divided by 4"
    ):
        cut_of(settings(2, 3), 4)


@given(rows=st.integers(1, 40), size=st.integers(1, 4), passes=st.integers(1, 3), processes=st.integers(1, 4))
def test_processes_share_the_rows_of_each_step_and_have_equally_many_batches(rows, size, passes, processes):
    cut = Cut(size, passes, processes)
    shares = [ShareOfRows(rows, cut, 7, process) for process in range(processes)]
    for epoch in range(2):
        dealt = [list(share) for share in shares]
        assert {len(each) for each in dealt} == {len(share) for share in shares}
        generator = torch.Generator().manual_seed(7 + epoch)
        order = torch.randperm(rows, generator=generator).tolist()
        step = size * passes * processes
        for number in range(cut.steps(rows)):
            taken = [batch for each in dealt for batch in each[number * passes : (number + 1) * passes]]
            assert sorted(row for batch in taken for row in batch) == sorted(order[number * step : (number + 1) * step])
            assert all(len(batch) <= size for batch in taken)
