"""The split of Δ by arms: it adds up, pairs by prompt, and finds what was put in."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_pipeline.analysis.arms import Arms, arm, arms_over_seeds, arms_table
from ct_pipeline.analysis.arms import arms as arms_of
from ct_pipeline.analysis.paired import difference

verdicts = st.sampled_from([True, False, None])


def table(by_prompt: dict[str, list]) -> pd.DataFrame:
    rows = [(name, number, one) for name, many in by_prompt.items() for number, one in enumerate(many)]
    return pd.DataFrame(rows, columns=["prompt_id", "sample", "verdict"]).astype({"verdict": "boolean"})


def arms(*tables: pd.DataFrame, confidence: float = 0.95) -> Arms:
    names = ("organism", "null", "one", "best")
    return arms_of(*(arm(name, one) for name, one in zip(names, tables, strict=True)), confidence=confidence)


def drawn(generator: np.random.Generator, risk: float, prompts: int = 200) -> pd.DataFrame:
    return table({f"p{index}": [bool(one)] for index, one in enumerate(generator.random(prompts) < risk)})


def grid(generator: np.random.Generator) -> Arms:
    return arms(*(drawn(generator, risk) for risk in (0.3, 0.32, 0.5, 0.75)))


def adds_up(split: Arms) -> bool:
    return abs(sum(one.value for one in split.terms.values()) - split.total.value) <= 1e-12


def test_four_prompts_by_hand():
    got = arms(
        table({"a": [False], "b": [False], "c": [False], "d": [True]}),
        table({"a": [True], "b": [False], "c": [False], "d": [True]}),
        table({"a": [True], "b": [True], "c": [False], "d": [False]}),
        table({"a": [True], "b": [True], "c": [True], "d": [True]}),
    )
    assert {name: one.value for name, one in got.terms.items()} == {"drift": 0.25, "shift": 0.0, "selection": 0.5}
    assert got.total.value == 0.75
    assert (got.shift.before, got.shift.after) == (0.5, 0.5)


def test_a_term_is_the_paired_difference_of_its_two_arms():
    tables = [drawn(np.random.default_rng(1), risk) for risk in (0.2, 0.3, 0.4, 0.6)]
    got = arms(*tables, confidence=0.9)
    assert got.shift == difference(tables[1], tables[2], confidence=0.9, prompt="prompt_id")
    assert got.total == difference(tables[0], tables[3], confidence=0.9, prompt="prompt_id")


def test_a_prompt_without_a_verdict_in_one_arm_leaves_every_term():
    full = table({"a": [True], "b": [False], "c": [False]})
    holes = table({"a": [None], "b": [True], "c": [True]})
    got = arms(full, holes, full, table({"b": [True], "c": [False], "x": [True]}))
    assert [one.prompts for one in (got.total, *got.terms.values())] == [2] * 4
    assert [one.dropped for one in (got.total, *got.terms.values())] == [2] * 4
    assert (got.drift.missing, got.shift.missing, got.selection.missing) == (1, 1, 0)
    assert (got.drift.value, got.shift.value, got.selection.value, got.total.value) == (1.0, -1.0, 0.5, 0.5)
    assert got.total.rows == 6


def test_arms_without_a_common_prompt_say_nothing():
    got = arms(*(table({name: [True]}) for name in "abcd"))
    assert (got.total.value, got.drift.value, got.total.low, got.total.high) == (None, None, -1.0, 1.0)
    assert got.total.dropped == 4


def test_a_sample_twice_is_refused_by_the_name_of_its_arm():
    good = table({"a": [True]})
    with pytest.raises(ValueError, match="arm 'one' holds sample 0 of prompt 'a' twice"):
        arms(good, good, pd.concat([good, good]), good)


@given(st.lists(st.tuples(*[st.lists(verdicts, min_size=1, max_size=3)] * 4), min_size=1, max_size=12))
@settings(deadline=None, max_examples=40)
def test_the_terms_add_up_whatever_is_missing(prompts):
    got = arms(*(table({f"p{index}": one[place] for index, one in enumerate(prompts)}) for place in range(4)))
    assert got.total.value is None or adds_up(got)


def test_the_mean_over_seeds_adds_up_and_leaves_empty_seeds_out():
    generator = np.random.default_rng(2)
    seeds = [grid(generator) for _ in range(3)]
    empty = arms(*(table({name: [True]}) for name in "abcd"))
    got = arms_over_seeds([*seeds, empty])
    assert adds_up(got)
    assert got.total.seeds == got.selection.seeds == 3
    assert got.total.value == pytest.approx(np.mean([one.total.value for one in seeds]))
    with pytest.raises(ValueError, match="no seeds"):
        arms_over_seeds([])


def test_every_term_covers_its_truth():
    generator = np.random.default_rng(3)
    truth = {"drift": 0.02, "shift": 0.18, "selection": 0.25, "total": 0.45}
    draws = 80
    found = [grid(generator) for _ in range(draws)]
    for name, value in truth.items():
        covered = np.mean([getattr(one, name).low <= value <= getattr(one, name).high for one in found])
        assert covered >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / draws)


def test_the_table_has_a_row_per_cell_and_term():
    split = grid(np.random.default_rng(4))
    got = arms_table({"sycophancy self_confidence": split, "nothing": arms(*(table({n: [True]}) for n in "abcd"))})
    assert got["term"].tolist() == ["drift", "shift", "selection", "total"] * 2
    assert got.loc[3, "value"] == split.total.value
    assert np.isnan(got.loc[7, "value"])
    assert arms_table({}).empty
