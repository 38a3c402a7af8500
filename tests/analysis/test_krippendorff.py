"""Alpha: published examples, and what must hold for any ratings."""

import math
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.analysis.krippendorff import krippendorff_alpha

NONE = None
# K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): examples A (binary), B (nominal) and C (four observers,
# twelve units, missing values).
BINARY = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
LETTERS = [["abcde".index(letter) for letter in row] for row in ("aabbdcccedda", "babbbccceddd")]
FOUR = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
    [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
]
# The example of the article "Krippendorff's alpha" of Wikipedia: three coders, fifteen units.
THREE = [
    [NONE, NONE, NONE, NONE, NONE, 3, 4, 1, 2, 1, 1, 3, 3, NONE, 3],
    [1, NONE, 2, 1, 3, 3, 4, 3, NONE, NONE, NONE, NONE, NONE, NONE, NONE],
    [NONE, NONE, 2, 1, 3, 4, 4, NONE, 2, 1, 1, 3, 3, NONE, 4],
]


@pytest.mark.parametrize(
    ("ratings", "level", "published"),
    [
        (BINARY, "nominal", 0.095),
        (LETTERS, "nominal", 0.692),
        (FOUR, "nominal", 0.743),
        (FOUR, "ordinal", 0.815),
        (FOUR, "interval", 0.849),
        (THREE, "nominal", 0.691),
        (THREE, "interval", 0.811),
    ],
)
def test_published_examples(ratings, level, published):
    assert krippendorff_alpha(ratings, level, samples=0).value == pytest.approx(published, abs=0.0005)


def test_counts_are_those_of_pairable_values():
    found = krippendorff_alpha(FOUR, "nominal", samples=0)
    assert (found.units, found.values) == (11, 40)


def by_definition(ratings, level):
    """Alpha from the definition: mean squared difference within units over that among all values."""
    units = [[row[u] for row in ratings if row[u] is not None] for u in range(len(ratings[0]))]
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]

    def distance(a, b):
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return float((a - b) ** 2)
        low, high = min(a, b), max(a, b)
        return (sum(low <= v <= high for v in values) - (values.count(a) + values.count(b)) / 2) ** 2 if a != b else 0.0

    observed = sum(
        distance(a, b) / (len(unit) - 1) for unit in units for a, b in permutations(unit, 2)
    ) / len(values)  # fmt: skip
    expected = sum(distance(a, b) for a, b in permutations(values, 2)) / (len(values) * (len(values) - 1))
    return 1 - observed / expected if expected else None


RATING = st.one_of(st.none(), st.integers(0, 4))
TABLES = st.tuples(st.integers(2, 4), st.integers(1, 7)).flatmap(
    lambda shape: st.lists(st.lists(RATING, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
)
LEVELS = st.sampled_from(("nominal", "ordinal", "interval"))


@given(TABLES, LEVELS)
def test_it_is_the_definition(ratings, level):
    found = krippendorff_alpha(ratings, level, samples=0).value
    units = [[row[u] for row in ratings if row[u] is not None] for u in range(len(ratings[0]))]
    expected = by_definition(ratings, level) if any(len(unit) > 1 for unit in units) else None
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))
    assert found is None or found <= 1


@given(TABLES, LEVELS, st.randoms())
def test_neither_the_order_of_judges_nor_of_units_counts(ratings, level, dice):
    columns = list(range(len(ratings[0])))
    dice.shuffle(columns)
    rows = [[row[c] for c in columns] for row in ratings]
    dice.shuffle(rows)
    assert krippendorff_alpha(rows, level, samples=0).value == pytest.approx(
        krippendorff_alpha(ratings, level, samples=0).value, abs=1e-12
    )


@given(TABLES)
def test_units_of_one_value_and_scales_do_not_count(ratings):
    lone = [[*row, 3 if n == 0 else None] for n, row in enumerate(ratings)]
    moved = [[None if value is None else 10 - 2.5 * value for value in row] for row in ratings]
    for level, other in (("interval", lone), ("interval", moved), ("nominal", moved), ("ordinal", moved)):
        assert krippendorff_alpha(other, level, samples=0).value == pytest.approx(
            krippendorff_alpha(ratings, level, samples=0).value, abs=1e-9
        )


@given(st.lists(st.integers(0, 4), min_size=2, max_size=20), LEVELS)
def test_perfect_agreement_is_one_unless_there_is_nothing_to_agree_on(values, level):
    found = krippendorff_alpha([values, values], level, samples=50).value
    assert found == (1 if len(set(values)) > 1 else None)


def test_truth_values_and_every_kind_of_missing_are_read():
    rows = [[True, False, None, True], pd.array([1, 0, 1, None], dtype="Int64"), [1.0, float("nan"), 1, pd.NA]]
    assert krippendorff_alpha(rows, "nominal", samples=0).value == 1


def test_the_interval_holds_the_value_and_shrinks():
    generator = np.random.default_rng(0)
    truth = generator.random(1000) < 0.4
    judges = [truth ^ (generator.random(1000) < 0.1) for _ in range(2)]
    wide, narrow = (krippendorff_alpha([j[:n].tolist() for j in judges], "nominal", samples=500) for n in (50, 1000))
    for found in (wide, narrow):
        assert found.low <= found.value <= found.high
    assert narrow.high - narrow.low < 0.4 * (wide.high - wide.low)
    assert krippendorff_alpha(FOUR, "nominal", seed=3) == krippendorff_alpha(FOUR, "nominal", seed=3)


def test_the_interval_covers():
    # Verdicts of rate 1/2, each flipped with chance 0.1 by each judge: alpha of many is 0.64.
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(120):
        truth = generator.random(150) < 0.5
        judges = [(truth ^ (generator.random(150) < 0.1)).tolist() for _ in range(2)]
        found = krippendorff_alpha(judges, "nominal", samples=300, seed=int(generator.integers(2**31)))
        covered += found.low <= 0.64 <= found.high
    assert covered >= 107


def test_nothing_to_compare_has_no_alpha():
    found = krippendorff_alpha([[1, None], [None, 2]], "nominal")
    assert (found.value, found.units) == (None, 0)
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize(
    ("ratings", "level", "error"),
    [
        ([[1, 2]], "nominal", ValueError),
        ([[1, 2], [1]], "nominal", ValueError),
        ([[1, 2], [1, math.inf]], "interval", ValueError),
        ([[1, 2], [1, 2]], "ratio", ValueError),
        ([["yes", 2], [1, 2]], "nominal", TypeError),
    ],
)
def test_what_cannot_be_rated_is_refused(ratings, level, error):
    with pytest.raises(error):
        krippendorff_alpha(ratings, level)
