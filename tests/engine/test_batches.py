"""Batches: all work is done once, within the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.engine.batches import check_lengths, left_padded, shares_by_length


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 12), st.integers(0, 20), st.integers(1, 400))
def test_every_sample_of_every_row_is_planned_once_within_the_limit(lengths, samples, new, most_tokens):
    planned = []
    for batch in shares_by_length(lengths, samples, new, most_tokens):
        rows = sum(share.samples for share in batch)
        width = max(lengths[share.row] for share in batch) + new
        assert rows * width <= most_tokens or rows == 1
        planned += [(share.row, share.first + i) for share in batch for i in range(share.samples)]
    assert sorted(planned) == [(row, i) for row in range(len(lengths)) for i in range(samples)]
    for row in range(len(lengths)):
        numbers = [i for r, i in planned if r == row]
        assert numbers == sorted(numbers)


def test_padding_is_on_the_left_and_positions_start_at_the_text():
    ids, mask, positions = left_padded([[7, 8, 9], [5]], "cpu")
    assert ids.tolist() == [[7, 8, 9], [0, 0, 5]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert positions.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_a_row_that_does_not_fit_is_named_with_its_length_and_the_limit():
    with pytest.raises(ValueError, match=r"row 1: 60 prompt tokens and 5 new tokens exceed the context window of 64"):
        check_lengths([[1] * 59, [1] * 60], [5, 5], 64, "new")
    with pytest.raises(ValueError, match="row 0: the prompt is empty"):
        check_lengths([[]], [5], 64, "new")
