"""Which positions of two prompts are compared: row by row, whatever the padding."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.training.examples import PairRow
from ct_pipeline.training.pairs import PairBatches, check_pairs
from ct_pipeline.training.windows import matched_suffix, window_lengths
from tests.fakes.tiny_models import tiny_base
from tests.training.rows import pair_rows

TOKENS = st.lists(st.integers(8, 11), min_size=1, max_size=8)


def pair(clean, wrapped):
    return PairRow(tuple(clean), tuple(wrapped), ())


@pytest.mark.parametrize(
    ("clean", "wrapped", "length"),
    [
        ((1, 2, 3), (9, 9, 1, 2, 3), 3),
        ((5, 2, 3), (9, 9, 1, 2, 3), 2),
        ((1, 2, 3), (1, 9, 2, 3), 2),
        ((1, 2, 3), (1, 2, 4), 0),
        ((1, 1, 1), (1, 1, 1, 1), 3),
    ],
)
def test_matched_is_the_longest_common_suffix(clean, wrapped, length):
    assert matched_suffix(clean, wrapped) == length


@given(TOKENS, TOKENS)
def test_nothing_longer_matches(clean, wrapped):
    length = matched_suffix(clean, wrapped)
    both = range(min(len(clean), len(wrapped)) + 1)
    assert length == max(n for n in both if clean[len(clean) - n :] == wrapped[len(wrapped) - n :])


def test_trailing_is_as_long_as_the_shorter_prompt():
    rows = [pair((1, 2, 3), (4, 5, 6, 7)), pair((1, 2, 3), (4, 5))]
    assert window_lengths(rows, "trailing") == (3, 2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_same_tokens_are_compared_under_wrappers_of_unequal_length(side):
    rows = [pair((8, 20, 21), (8, 9, 20, 21)), pair((22, 23), (9, 9, 9, 9, 9, 22, 23)), pair((7, 24), (24,))]
    windows = PairBatches(rows, window_lengths(rows, "matched"), torch.device("cpu"))
    clean, wrapped = windows.clean([2, 0, 1]), windows.collated([2, 0, 1], side)
    for batch in (clean, wrapped):
        row, column = batch["places"]
        assert batch["input_ids"][row, column].tolist() == [24, 20, 21, 22, 23]
        assert batch["attention_mask"][row, column].all()
        assert row.tolist() == [0, 1, 1, 2, 2]
    assert wrapped["rows"] == [2, 0, 1]
    assert windows.positions([2, 0, 1]) == 5 == sum(windows.places(n) for n in range(3))


@pytest.mark.parametrize("side", ["left", "right"])
def test_pairs_are_of_a_query_and_a_key_before_it_inside_the_window(side):
    rows = pair_rows(6)
    lengths = window_lengths(rows, "matched")
    windows = PairBatches(rows, lengths, torch.device("cpu"), crossed=True)
    batch = windows.collated(list(range(6)), side)
    row, query, key = batch["places"]
    for number, length in enumerate(lengths):
        own = row == number
        expected = {(q, k) for q in range(length) for k in range(q + 1)}
        last = batch["position_ids"][number].max() - length + 1
        positions = batch["position_ids"][number]
        found = zip((positions[query[own]] - last).tolist(), (positions[key[own]] - last).tolist(), strict=True)
        assert sorted(found) == sorted(expected)
        assert windows.places(number) == len(expected)
    assert torch.equal(batch["input_ids"][row, key], _clean_keys(windows))


def _clean_keys(windows):
    clean = windows.clean(list(range(len(windows.rows))))
    row, _, key = clean["places"]
    return clean["input_ids"][row, key]


def test_rows_without_a_window_are_named():
    good = pair_rows(1)[0]
    with pytest.raises(ValueError, match=r"row 1: the prompts end with different tokens \(3 and 4\).*trailing"):
        window_lengths([good, pair((1, 3), (1, 4))], "matched")
    with pytest.raises(ValueError, match="window: leading is none of matched, trailing"):
        window_lengths([good], "leading")


def test_prompts_that_cannot_be_compared_are_named():
    base, good = tiny_base(), pair_rows(1)[0]
    check_pairs(base, [replace(good, completion_ids=())], completions=False)
    for bad, why in (
        (replace(good, wrapped_ids=good.clean_ids), "row 1: clean and wrapped prompt are the same"),
        (replace(good, clean_ids=()), "row 1: a prompt is empty"),
        (pair((8,), (9,) * 65), "row 1: 65 tokens exceed the context window of 64"),
    ):
        with pytest.raises(ValueError, match=why):
            check_pairs(base, [good, bad], completions=False)
    with pytest.raises(ValueError, match="no pairs"):
        check_pairs(base, [], completions=False)
