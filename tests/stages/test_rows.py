"""Rows and their digests."""

import dataclasses

import pytest

from ct_pipeline.organisms.kind import Example, Message, Pair, Prompt
from ct_pipeline.stages.rows import digest, kind_named, rows_of
from ct_pipeline.study.errors import UserError
from ct_pipeline.study.keys import Organism

ONE = Prompt((Message("user", "what is 1 plus 1 ?"),), "in", "direct", {"answer": "2"})
TWO = Prompt((Message("user", "what is 1 plus 2 ?"),), "in", "direct", {"answer": "3"})


def test_equal_rows_have_equal_digests():
    assert digest([ONE, TWO]) == digest((dataclasses.replace(ONE), dataclasses.replace(TWO)))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [ONE],
        [TWO, ONE],
        [ONE, ONE, TWO],
        [ONE, dataclasses.replace(TWO, facts={"answer": "4"})],
        [ONE, dataclasses.replace(TWO, domain="out")],
        [ONE, dataclasses.replace(TWO, framing="wrong_claim")],
        [ONE, dataclasses.replace(TWO, messages=(Message("system", "be brief ."), *TWO.messages))],
        [Example(ONE, "it is 2 ."), TWO],
        [Pair(ONE, TWO)],
    ],
)
def test_any_other_rows_have_another_digest(rows):
    assert digest(rows) != digest([ONE, TWO])


def test_a_response_and_the_sides_of_a_pair_count():
    assert digest([Example(ONE, "it is 2 .")]) != digest([Example(ONE, "it is 3 .")])
    assert digest([Pair(ONE, TWO)]) != digest([Pair(TWO, ONE)])


def test_rows_are_made_once_for_equal_settings(small_study, organism):
    assert rows_of(small_study, organism) is rows_of(small_study.model_copy(update={"name": "other"}), organism)


def test_organisms_that_differ_in_seed_share_all_but_their_training_rows(tiny_study):
    one, other = (rows_of(tiny_study, Organism("tiny", "sycophancy", seed)) for seed in (40, 41))
    assert digest(one.evaluation) == digest(other.evaluation)
    assert digest(one.consistency) == digest(other.consistency)
    assert digest(one.induction) != digest(other.induction)


def test_more_prompts_than_the_world_has_are_refused_with_the_setting(small_study, organism):
    greedy = small_study.evaluation.model_copy(update={"in_domain": 1_000_000})
    with pytest.raises(UserError, match=r"study tiny, sycophancy: evaluation\.in_domain: 1000000 .* at most \d+"):
        rows_of(small_study.model_copy(update={"evaluation": greedy}), organism)


def test_a_kind_is_found_by_name():
    assert kind_named("reward_hacking").name == "reward_hacking"
    with pytest.raises(KeyError):
        kind_named("reward_hack")
