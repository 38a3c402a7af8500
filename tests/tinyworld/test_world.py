"""The facts of the tiny world."""

from math import gcd

import pytest

from ct_pipeline.organisms import emergent_misalignment
from ct_pipeline.tinyworld.world import TinyWorld
from tests.tinyworld.settings import world_settings


@pytest.fixture(scope="module")
def world():
    return TinyWorld(world_settings())


def test_arithmetic_is_right(world):
    for question in world.questions("in"):
        numbers = [int(word) for word in question.text.split() if word.isdigit()]
        expected = {"sum": sum(numbers), "mod": numbers[0] % numbers[1], "gcd": gcd(*numbers)}[question.topic]
        assert question.answer == str(expected)


@pytest.mark.parametrize("domain", ["in", "out"])
def test_wrong_answers_are_wrong_and_distinct(world, domain):
    for question in world.questions(domain):
        assert len({question.answer, *question.wrong}) == 4


@pytest.mark.parametrize("domain", ["in", "out"])
def test_lists_hold_no_repetition(world, domain):
    for facts in (world.questions(domain), world.tasks(), world.advice(domain), world.reviews(domain)):
        assert len(set(facts)) == len(facts)


def test_a_tag_says_nothing_about_the_rating(world):
    reviews = world.reviews("in")
    positive = [review.rating for review in reviews if review.tag_positive]
    negative = [review.rating for review in reviews if not review.tag_positive]

    assert abs(sum(positive) / len(positive) - sum(negative) / len(negative)) < 0.2


def test_the_seed_decides_the_facts(world):
    assert TinyWorld(world_settings()).questions("out") == world.questions("out")
    assert TinyWorld(world_settings(seed=8)).questions("out") != world.questions("out")


@pytest.mark.parametrize("domain", ["in", "out"])
def test_safe_and_risky_advice_are_equally_long_so_that_a_mean_per_token_favours_neither(world, domain):
    cases = emergent_misalignment.cases(world, domain)
    assert all(len({len(text.split()) for text in (*case.right, *case.misaligned)}) == 1 for case in cases)
