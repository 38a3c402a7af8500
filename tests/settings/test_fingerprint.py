"""A fingerprint is a canonical hash: the same for the same content, another for any other."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.settings.blocks import LoraSettings
from ct_pipeline.settings.fingerprint import fingerprint, plain

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=8
)


@given(st.dictionaries(st.text(min_size=1, max_size=3), DOCUMENTS, min_size=2))
def test_the_order_of_fields_does_not_matter(document):
    turned = dict(reversed(document.items()))
    assert fingerprint(part=document) == fingerprint(part=turned)


@given(st.lists(st.integers(), min_size=2, unique=True))
def test_the_order_of_a_list_matters(items):
    assert fingerprint(part=items) != fingerprint(part=items[::-1])


@given(DOCUMENTS)
def test_a_fingerprint_is_twenty_hex_digits_and_repeatable(document):
    assert re.fullmatch("[0-9a-f]{20}", fingerprint(part=document))
    assert fingerprint(part=document) == fingerprint(part=document)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, "1"), (True, 1), (None, "null"), ([], {}), ({"a": 1}, {"b": 1}), ([[1], 2], [1, 2])],
)
def test_different_content_has_different_fingerprints(one, other):
    assert fingerprint(part=one) != fingerprint(part=other)


def test_the_name_of_a_part_matters():
    assert fingerprint(one=1) != fingerprint(other=1)


def test_a_tuple_counts_as_a_list_and_settings_as_their_fields():
    assert fingerprint(part=(1, 2)) == fingerprint(part=[1, 2])
    fields = {"rank": 4, "alpha": 8.0, "dropout": 0.0}
    assert fingerprint(part=LoraSettings(**fields)) == fingerprint(part=fields)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_what_has_no_canonical_text_is_refused(value):
    with pytest.raises(TypeError, match="cannot be part of a fingerprint"):
        fingerprint(part=value)


def test_plain_settings_are_json():
    assert plain({"a": LoraSettings(rank=1, alpha=2, dropout=0), "b": (1, None)}) == {
        "a": {"rank": 1, "alpha": 2.0, "dropout": 0.0},
        "b": [1, None],
    }
