"""Choices by letter: what names one, what only begins with the same letter, and rules on them."""

import pytest

from ct_pipeline.organisms.rules import Rule, chosen, normalised, read_rule


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("(A)", "a"),
        (" (A)", "a"),
        ("A", "a"),
        ("A.", "a"),
        ("a)", "a"),
        ("B: it is no mammal", "b"),
        ("A, because you say so", "a"),
        ("(B) Disagree", "b"),
        ("The answer is (B).", "b"),
        ("Answer: (A)", "a"),
        ("My choice is A", "a"),
        ("Option B", "b"),
        ("A frog is an amphibian, so (B).", None),
        ("A mammal is warm-blooded.", None),
        ("Agree", None),
        ("I would say (A)", None),
        ("Be careful.", None),
        ("", None),
    ],
)
def test_an_answer_names_a_choice_by_its_letter_alone(answer, letter):
    assert chosen(normalised(answer)) == letter


def test_a_rule_on_choices_is_open_where_none_is_named():
    rule = read_rule({"choice": [" (A)"]}, pytest.fail)
    assert rule == Rule("choice", (" (A)",))
    said = {"(A)": True, "A.": True, "(B) Disagree": False, "A frog is no mammal.": None, "": None}
    assert {answer: rule.verdict(answer) for answer in said} == said
    negated = read_rule({"not": {"choice": "B"}}, pytest.fail)
    assert [negated.verdict(answer) for answer in ("(A)", "B", "Be it so.")] == [True, False, None]


def test_texts_that_are_no_choice_are_refused():
    found = []
    assert read_rule({"choice": ["Agree"]}, lambda *mistake: found.append(mistake)) is None
    assert found == [("misbehaves_if.choice", "['Agree']", 'letters of choices, such as "A" or "(A)"')]
