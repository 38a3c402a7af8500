"""Stored documents become the results they were written from, nested ones, missing values and all."""

import dataclasses
import json
from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.rates import rate
from ct_pipeline.store.typed import typed


@dataclass(frozen=True)
class Outcome:
    """Something nested."""

    kl: KlEstimate | None
    reasons: tuple[str, ...]
    by_seed: dict[str, Estimate]
    passed: bool | None


PART = Estimate(0.1, None, 0.3, None, 7)
OUTCOME = Outcome(
    KlEstimate("proposal", "exact", PART, Estimate(None, 0.0, 1.0, None, 0)), ("a", "b"), {"40": PART}, None
)


def stored(result):
    return json.loads(json.dumps(dataclasses.asdict(result)))


@pytest.mark.parametrize("result", [PART, OUTCOME, rate([True, False, None]), dataclasses.replace(OUTCOME, kl=None)])
def test_what_was_stored_comes_back_as_it_was(result):
    assert typed(type(result), stored(result)) == result


def test_many_results_come_back_together_and_one_that_is_not_there_stays_none():
    assert typed(dict[str, Estimate], {"a": stored(PART)}) == {"a": PART}
    assert typed(tuple[Estimate, ...], [stored(PART)] * 2) == (PART, PART)
    assert typed(KlEstimate | None, None) is None


def test_numbers_keep_every_digit():
    value = 0.1 + 0.2
    assert typed(Estimate, stored(Estimate(value, value, value, value, 3))).value.hex() == value.hex()


def test_a_field_too_many_is_passed_over_and_one_too_few_is_not():
    assert typed(Estimate, stored(PART) | {"sign": "rises"}) == PART
    fewer = {name: value for name, value in stored(PART).items() if name != "prompts"}
    with pytest.raises(ValidationError, match="prompts"):
        typed(Estimate, fewer)
    with pytest.raises(ValueError, match="value"):
        typed(Estimate, stored(PART) | {"value": "much"})
