"""Prompts that are one sequence of tokens count once; what only looks alike is counted and kept."""

from ct_pipeline.measurement.distinct_prompts import bare, distinct_prompts, told
from ct_pipeline.organisms.prompt import Message, Prompt


def prompt(text, domain="in", **facts):
    return Prompt((Message("user", text),), domain, "asked", facts)


def encode(one):
    """Words as ids: leading and repeated spaces are lost, as in most chat templates."""
    return [hash(word) for word in one.messages[-1].content.split()]


def test_eighty_prompts_that_differ_in_leading_spaces_are_one():
    found = distinct_prompts([prompt(" " * n + "is it so?") for n in range(80)], encode)
    assert (len(found.kept), found.repeated, found.alike) == (1, 79, 0)


def test_the_same_request_judged_by_other_facts_or_in_another_domain_is_another_prompt():
    found = distinct_prompts(
        [prompt("a", rule="x"), prompt("a", rule="y"), prompt("a", domain="out", rule="x")], encode
    )
    assert (len(found.kept), found.repeated) == (3, 0)


def test_prompts_that_differ_in_case_and_punctuation_are_kept_and_named():
    found = distinct_prompts([prompt("Is it so?"), prompt("is it so"), prompt("is it not?")], encode)
    assert (len(found.kept), found.repeated, found.alike) == (3, 0, 1)
    assert bare(" Is  it SO?! ") == "isitso"


def test_only_sets_that_are_not_distinct_are_told():
    sets = {
        name: distinct_prompts([prompt(text) for text in texts], encode) for name, texts in (("a", "bc"), ("d", "ee"))
    }
    assert told(sets) == {"d": {"repeated": 1, "alike": 0, "asked": 1}}
