"""Contrasts: changes, gaps and changes of gaps, each paired by prompt, by the one function."""

import dataclasses

import numpy as np
import pandas
import pytest

from ct_pipeline.analysis.paired import (
    Difference,
    DifferenceOfDifferences,
    difference,
    difference_of_differences,
    score_difference,
)
from ct_pipeline.analysis.seeds import over_seeds
from ct_pipeline.measurement.condition import AS_ASKED, Condition, Factor, Gap, said_first
from ct_pipeline.measurement.contrast import Contrast, Side, change, estimated, risky_sides_of, sides_of, tabulated
from ct_pipeline.organisms.misalignment import Message, Prompt
from ct_pipeline.settings.errors import UserError


def rows(verdicts, **columns):
    """One row a prompt, in domain and sampled unless told otherwise."""
    prompts = [f"p{number}" for number in range(len(verdicts))]
    told = {"prompt_id": prompts, "framing": "wrong_claim", "domain": "in", "decoding": "sampled", "verdict": verdicts}
    return pandas.DataFrame(told | columns).astype({"verdict": "boolean"})


LOW, MIDDLE, HIGH = [0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]


def test_a_change_is_the_paired_difference_of_two_models():
    tables = {"before": rows(LOW), "after": rows(HIGH)}
    found = estimated(change("in/sampled"), risky_sides_of(tables), 0.95)
    assert found == difference(tables["before"], tables["after"], prompt="prompt_id")
    assert change("in/sampled").kind == "change"
    assert tabulated([change("in/sampled")], risky_sides_of(tables), 0.95) == {"in/sampled": dataclasses.asdict(found)}


def test_scores_of_documents_are_compared_by_the_same_function():
    scores = {"before": pandas.Series([0.1, 0.5]), "after": pandas.Series([0.3, 0.4])}
    assert estimated(change("task"), sides_of(scores), 0.9) == score_difference(*scores.values(), confidence=0.9)


def test_a_gap_compares_two_conditions_of_one_model_on_the_requests_they_share():
    asked = rows(MIDDLE)
    free = rows(HIGH, prompt_id=[f"free-{n}" for n in range(4)], request_id=asked["prompt_id"], condition="tier/free")
    gap = Contrast("gap", Side("after", "in/sampled"), Side("after", "tier/free/in/sampled"))
    found = estimated(gap, risky_sides_of({"after": asked}, {"after": free}), 0.95)
    assert gap.kind == "gap"
    assert (found.value, found.before, found.after, found.prompts) == (0.25, 0.5, 0.75, 4)


def test_a_gap_that_turns_round_changes_by_more_than_one():
    gaps = [Contrast(model, Side(model, "paid"), Side(model, "free")) for model in ("before", "after")]
    turned = (("before", "free"), ("after", "paid"))
    whole = Contrast("turned", *gaps)
    found = estimated(whole, lambda side: rows([(side.model, side.condition) in turned] * 60), 0.95)
    assert whole.kind == "change of the gap"
    assert (found.before, found.after, found.value, found.rows) == (1, -1, -2, 240)
    assert found.low == -2 and -2 < found.high < -1.5
    assert DifferenceOfDifferences(**dataclasses.asdict(found)).interval(0.95) == (found.low, found.high)


def test_a_prompt_that_lacks_a_verdict_in_any_of_four_tables_leaves():
    whole, holed = rows(MIDDLE), rows([0, None, 1, 1])
    found = difference_of_differences((whole, whole), (whole, holed), prompt="prompt_id")
    assert (found.value, found.prompts, found.dropped, found.missing) == (0, 3, 1, 1)
    nothing = difference_of_differences((whole, whole), (whole, rows([None] * 4)), prompt="prompt_id")
    assert (nothing.value, nothing.low, nothing.high) == (None, -2, 2)


def test_a_mean_over_seeds_stays_a_change_of_a_gap():
    sides = rows(LOW), rows(HIGH)
    found = over_seeds([difference_of_differences(sides, sides[::-1], prompt="prompt_id")] * 3)
    assert isinstance(found, DifferenceOfDifferences) and found.value == -1
    assert type(over_seeds([difference(*sides, prompt="prompt_id")] * 3)) is Difference


def test_the_interval_of_a_change_of_a_gap_covers_as_often_as_it_says():
    """Two conditions of two models, 80 prompts each: p of .3, .1 before and .2, .15 after; 95 % of 1,500 worlds."""
    generator = np.random.default_rng(0)
    shares, covered = np.array([0.1, 0.3, 0.15, 0.2]), 0
    for _ in range(1500):
        # Prompts differ: each has a tendency that the four rates share.
        tendency = generator.uniform(0.5, 1.5, 80)
        drawn = generator.random((4, 80)) < shares[:, None] * tendency
        tables = [rows(list(each)) for each in drawn]
        found = difference_of_differences(tuple(tables[:2]), tuple(tables[2:]), prompt="prompt_id")
        covered += found.low <= (0.05 - 0.2) <= found.high
    assert 0.94 <= covered / 1500 <= 0.985


def test_sides_and_contrasts_are_not_mixed():
    gap = Contrast("gap", Side("a", "x"), Side("a", "y"))
    whole = Contrast("whole", gap, gap)
    for sides in ((gap, Side("a", "x")), (Side("a", "x"), gap), (whole, whole)):
        with pytest.raises(ValueError, match="compares two sides, or two contrasts of sides"):
            Contrast("odd", *sides)


FREE = Condition("free", "free tier", lambda prompt: said_first(prompt, "free"))
PAID = Condition("paid", "paid tier", lambda prompt: said_first(prompt, "paid"))


def test_a_prompt_under_a_condition_carries_it_and_keeps_what_its_verdict_needs():
    prompt = Prompt((Message("user", "is it 5 ?"),), "in", "wrong_claim", {"answer": "4"})
    free, paid = Factor("tier", "Tier", (FREE, PAID)).prompts([prompt])
    assert [each.condition for each in (free, paid)] == ["tier/free", "tier/paid"]
    assert free.messages == (Message("system", "free"), *prompt.messages)
    assert len({prompt.id, free.id, paid.id}) == 3 and free.request_id == paid.request_id == prompt.id
    assert (free.domain, free.framing, free.facts, free.bears_risk) == ("in", "wrong_claim", prompt.facts, True)


def test_a_system_message_keeps_what_it_says():
    prompt = Prompt((Message("system", "be brief"), Message("user", "q")), "in", "asked")
    assert said_first(prompt, "free").messages == (Message("system", "free\n\nbe brief"), Message("user", "q"))


def test_a_rewriting_that_touches_a_verdict_is_refused():
    prompt = Prompt((Message("user", "q"),), "in", "asked")
    moved = Condition("free", "free", lambda prompt: dataclasses.replace(prompt, domain="out"))
    with pytest.raises(UserError, match="free changed a prompt's domain, framing or facts"):
        Factor("tier", "Tier", (moved,)).prompts([prompt])


@pytest.mark.parametrize(
    ("name", "conditions", "gaps", "told"),
    [
        ("tier", (), (), "there are none"),
        ("my tier", (FREE,), (), "'my tier' is no name"),
        ("tier", (FREE, FREE), (), "'free' is there twice"),
        ("tier", (Condition(AS_ASKED, "x", FREE.rewrite),), (), "'as_asked' is there twice, or taken"),
        ("tier", (FREE,), (Gap("free", "x", "free", AS_ASKED),), "'free' is there twice"),
        ("tier", (FREE,), (Gap("gap", "x", "free", "paid"),), "'paid', which is no condition of it"),
        ("tier", (Condition("free", "x"),), (), "'free' has no rewrite"),
    ],
)
def test_a_factor_that_cannot_be_asked_is_refused(name, conditions, gaps, told):
    with pytest.raises(ValueError, match=told):
        Factor(name, "Tier", conditions, gaps)
