"""Seeds depend on all their parts and on nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.settings.seeds import derive_seed

PARTS = st.lists(st.integers(0, 99) | st.text("abc", max_size=3), min_size=1, max_size=4)


def test_seeds_are_the_same_on_every_machine():
    assert derive_seed(0, "evaluation", "abc") == 3672135437876887550


@given(PARTS)
def test_a_seed_is_a_non_negative_number_of_63_bits(parts):
    assert 0 <= derive_seed(*parts) < 2**63


@given(PARTS, PARTS)
def test_seeds_are_equal_only_for_equal_parts(one, other):
    assert (derive_seed(*one) == derive_seed(*other)) == (list(map(str, one)) == list(map(str, other)))


def test_parts_do_not_run_together():
    assert derive_seed("ab", "c") != derive_seed("a", "bc")
