"""A part of a study: names select within their dimension, seeds are counted from the first."""

import pytest

from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.narrow import narrowed


def test_without_names_the_study_stays_whole(tiny_study):
    assert narrowed(tiny_study, (), None) == tiny_study


def test_a_name_keeps_its_dimension_to_itself_and_leaves_the_others(tiny_study):
    part = narrowed(tiny_study, ["sycophancy", "bct", "null"], None)
    assert part.misalignments == ("sycophancy",)
    assert list(part.methods) == ["null", "bct"]
    assert part.seeds == (40, 41, 42)
    assert list(part.models) == ["tiny"]
    assert len(part.cells) == 3 * 2


def test_seeds_are_the_first_of_the_list(tiny_study):
    assert narrowed(tiny_study, (), 2).seeds == (40, 41)


def test_a_seed_can_be_named(tiny_study):
    assert narrowed(tiny_study, ["42"], None).seeds == (42,)
    assert narrowed(tiny_study, ["41", "42"], 1).seeds == (41,)


def test_a_part_keeps_the_settings_of_what_it_keeps(tiny_study):
    part = narrowed(tiny_study, ["self_confidence", "reward_hacking"], 1)
    assert part.methods["self_confidence"] == tiny_study.methods["self_confidence"]
    assert part.retraining == tiny_study.retraining


def test_an_unknown_name_is_refused_with_all_that_there_are(tiny_study):
    with pytest.raises(UserError) as refused:
        narrowed(tiny_study, ["bct", "sycofancy", "nil"], None)
    said = str(refused.value)
    assert said.startswith("--only: sycofancy, nil not in study tiny. It has ")
    for name in (*tiny_study.misalignments, *tiny_study.methods, "40, 41, 42"):
        assert name in said


@pytest.mark.parametrize("seeds", [0, -1, 4, 10**12])
def test_a_number_of_seeds_that_the_study_lacks_is_refused(tiny_study, seeds):
    with pytest.raises(UserError, match=f"--seeds: found {seeds}; allowed: 1 to 3"):
        narrowed(tiny_study, (), seeds)
