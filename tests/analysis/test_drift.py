"""The drift alarm on runs that differ in a known way, and on runs that do not."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from ct_pipeline.analysis.drift import Drift, drift
from ct_pipeline.store.typed import typed

PROBES = ("sycophancy", "hacking", "misalignment", "spurious")


def run(risks, generator, prompts=100):
    """One verdict a prompt; `risks` by probe."""
    return pd.concat(
        [
            pd.DataFrame({"probe": probe, "prompt_id": range(prompts), "verdict": generator.random(prompts) < risk})
            for probe, risk in risks.items()
        ],
        ignore_index=True,
    )


def fixed(**counts):
    """100 prompts a probe, of which so many misbehave."""
    tables = [
        pd.DataFrame({"probe": probe, "prompt_id": range(100), "verdict": np.arange(100) < count})
        for probe, count in counts.items()
    ]
    return pd.concat(tables, ignore_index=True)


def test_equal_runs_raise_nothing():
    table = fixed(sycophancy=20, hacking=5)
    words = {"sycophancy": {"verdict": "amplifies", "gate": "PASS"}}
    got = drift(table, table, words, words)
    assert (got.raised, got.reasons, got.shifted, got.changed) == (False, (), (), ())
    assert got.differences["hacking"].value == 0


def test_a_shift_raises_the_alarm_with_its_numbers():
    got = drift(fixed(sycophancy=20, hacking=5), fixed(sycophancy=45, hacking=6), {}, {})
    assert got.shifted == ("sycophancy",)
    assert got.raised
    (reason,) = got.reasons
    assert reason.startswith("sycophancy: the risk moved by +25.0 pp [+")
    assert reason.endswith("from 20.0 % to 45.0 %.")


def test_holm_counts_all_probes():
    alone = drift(fixed(a=20), fixed(a=28), {}, {})
    assert alone.shifted == ("a",)
    assert alone.differences["a"].p_value() > 0.05 / 10
    others = {f"p{index}": 5 for index in range(9)}
    assert drift(fixed(a=20, **others), fixed(a=28, **others), {}, {}).shifted == ()


def test_a_changed_outcome_raises_the_alarm_and_says_whether_chance_explains_it():
    old = {"a": {"verdict": "neutral", "gate": "PASS"}}
    new = {"a": {"verdict": "undetermined", "gate": "NO SOLUTION FOUND"}}
    got = drift(fixed(a=20), fixed(a=21), old, new)
    assert got.raised
    assert got.changed == ("a",)
    assert got.shifted == ()
    (reason,) = got.reasons
    assert "verdict went from neutral to undetermined, gate went from PASS to NO SOLUTION FOUND" in reason
    assert reason.endswith("is within chance.")
    supported = drift(fixed(a=20), fixed(a=60), old, new)
    assert len(supported.reasons) == 2
    assert "within chance" not in "".join(supported.reasons)


def test_a_gate_that_turns_within_chance_is_said_and_raises_nothing():
    turned = {"a": {"gate": "PASS"}}, {"a": {"gate": "NO SOLUTION FOUND"}}
    quiet = drift(fixed(a=20), fixed(a=21), *turned)
    assert not quiet.raised
    assert quiet.changed == ("a",)
    assert "gate went from PASS to NO SOLUTION FOUND" in quiet.reasons[0]
    assert drift(fixed(a=20), fixed(a=60), *turned).raised


def test_an_outcome_that_one_run_lacks_is_not_compared():
    table = fixed(a=20)
    assert not drift(table, table, {"a": {"verdict": "neutral"}}, {"a": {"verdict": "neutral", "gate": "PASS"}}).raised
    assert not drift(table, table, {"a": {"gate": "PASS"}}, {}).raised


def test_an_outcome_without_rows_is_compared():
    table = fixed(a=20)
    got = drift(table, table, {"all": {"gate": "PASS"}}, {"all": {"gate": "NO SOLUTION FOUND"}})
    assert got.reasons == ("all: gate went from PASS to NO SOLUTION FOUND.",)


def test_a_probe_that_can_no_longer_be_compared_raises_the_alarm_and_a_new_one_does_not():
    both, one = fixed(a=20, b=20), fixed(a=20)
    assert drift(both, one, {}, {}).reasons == ("b: no prompt has a verdict in both runs, nothing can be compared.",)
    assert not drift(one, both, {}, {}).raised
    unjudged = one.assign(verdict=pd.array([pd.NA] * 100, dtype="boolean"))
    assert drift(one, unjudged, {}, {}).raised


def test_false_alarms_over_four_probes_are_rarer_than_one_in_twenty():
    generator = np.random.default_rng(0)
    risks = dict(zip(PROBES, (0.02, 0.1, 0.3, 0.5), strict=True))
    raised = [drift(run(risks, generator), run(risks, generator), {}, {}).raised for _ in range(100)]
    assert np.mean(raised) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_a_planted_shift_is_found():
    generator = np.random.default_rng(1)
    risks = dict.fromkeys(PROBES, 0.2)
    found = [drift(run(risks, generator), run(risks | {"hacking": 0.5}, generator), {}, {}).shifted for _ in range(40)]
    assert np.mean(["hacking" in each for each in found]) >= 0.95


def test_a_confidence_out_of_range_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        drift(fixed(a=1), fixed(a=1), {}, {}, confidence=1.0)


def test_a_drift_survives_being_stored_as_json():
    got = drift(fixed(a=20), fixed(a=60), {"a": {"gate": "PASS"}}, {"a": {"gate": "NO SOLUTION FOUND"}})
    assert typed(Drift, json.loads(json.dumps(dataclasses.asdict(got)))) == got
