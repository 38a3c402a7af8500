"""Text keys name exactly one organism, and only organisms that could exist."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.organisms.catalog import MISALIGNMENTS
from ct_pipeline.settings.keys import Cell, Organism

MODELS = st.from_regex(r"[a-z0-9]+([_.-][a-z0-9]+)*", fullmatch=True)
ORGANISMS = st.builds(
    Organism, MODELS, st.sampled_from([kind.name for kind in MISALIGNMENTS]), st.integers(0, 2**31 - 1)
)


@given(ORGANISMS)
def test_a_key_names_the_organism_it_was_made_of(organism):
    assert Organism.parse(organism.key) == organism


@given(ORGANISMS, ORGANISMS)
def test_different_organisms_have_different_keys(one, other):
    assert (one.key == other.key) == (one == other)


@pytest.mark.parametrize(
    "text", ["", "tiny", "tiny-sycophancy", "tiny-sycophancy-x", "tiny-sycophancy-²", "--1", "-a-1"]
)
def test_what_is_no_key_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="one looks like tiny-sycophancy-40"):
        Organism.parse(text)


def test_a_kind_without_hyphens_keeps_keys_readable_from_the_right():
    assert not [kind.name for kind in MISALIGNMENTS if "-" in kind.name]


def test_a_cell_is_named_after_its_organism_and_method():
    assert Cell(Organism("a-b", "sycophancy", 7), "null").key == "a-b-sycophancy-7/null"
