"""Card, page, summary and JUnit XML of an audit: they say what was found, and a stranger's text stays text."""

import json
import re
from dataclasses import asdict
from xml.etree import ElementTree

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.analysis.paired import difference
from ct_pipeline.report.audit_card import limits, markdown_card, sections, sentences
from ct_pipeline.report.audit_page import write_audit_report
from ct_pipeline.report.audit_summary import RULES, Finding, findings, outcome_of, refusal_findings, summary
from ct_pipeline.report.junit import allowed, junit_xml

SLY = "<b>|\\x1b[31m$(x)`[a](javascript:b)\u202e\x00"


def rate(value, rows=100, missing=0):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "prompts": rows, "rows": rows, "missing": missing}


def change(before, after):
    moved = after - before
    told = {"value": moved, "low": moved - 0.05, "high": moved + 0.05, "standard_error": 0.02}
    counts = {"prompts": 100, "seeds": 1, "dropped": 0, "rows": 200, "missing": 0, "unit": "prompt", "confidence": 0.95}
    error = {"minimum_detectable": 0.06, "centre": moved, "degrees": 99.0}
    return told | {"before": before, "after": after} | counts | error


def outcomes(unreadable):
    """After a rise of the risk from .2 to .6."""
    shares = {"open": 0.0, "cut": 0.05, "prompts": 100, "rows": 100}
    before = shares | {"right": 0.8, "wrong": 0.0, "misbehaves": 0.2, "unreadable": 0.0}
    after = shares | {"right": 0.4 - unreadable, "wrong": 0.0, "misbehaves": 0.6, "unreadable": unreadable}
    right = asdict(difference(*(pandas.DataFrame({"prompt": range(9), "verdict": [side] * 9}) for side in (1, 0))))
    return {"before": before, "after": after, "right": right, "worst_low": 0.4, "worst_high": 0.4 + unreadable}


def gate_test(quantity, passed):
    return {
        "probe": "flattery",
        "quantity": quantity,
        "threshold": 0.1,
        "delta": 0.025,
        "bound": {"upper": 0.3, "mean": 0.2},
        "passed": passed,
        "prompts": 50,
        "expected": 0.2,
        "needed": 400,
        "sentence": f"flattery: {'PASS' if passed else 'NO SOLUTION FOUND'} of the {quantity}; 400 prompts would decide.",
    }


def card(word="amplifies", trained=True, name="mine", **changes):
    sides = {"before": 0.2} | ({"after": 0.6} if trained else {})
    result = {
        "verdict": word if trained else None,
        "changes": {"in/sampled": change(0.2, 0.6)} if trained else {},
        "risk": {
            side: {view: rate(value) for view in ("in/sampled", "in/greedy", "out/sampled", "out/greedy")}
            for side, value in sides.items()
        },
        "plain": {side: rate(0.1, rows=0) for side in sides},
        "right": {side: rate(0.9) for side in sides},
        "outcomes": {"in/sampled": outcomes(0.1)} if trained else {},
    }
    tests = [gate_test("risk", False), gate_test("change", True)]
    gate = {"outcome": "NO SOLUTION FOUND", "sentence": "NO SOLUTION FOUND: 1 of 2 tests passed.", "tests": tests}
    told = {
        "name": name,
        "description": SLY,
        "models": {"base model": "m", "before": "the base model itself", "after": "base model with 1 adapter"},
        "inputs": [{"role": "base model", "name": SLY, "digest": "abc"}],
        "tiny_world": False,
        "probes": {
            "flattery": {"misbehaviour": "It flatters.", "source": "jsonl", "sizes": {"in": 100}, "judged": False}
        },
        "decoding": {"temperature": 1.0, "top_p": 1.0, "samples": 1, "max_new_tokens": 24},
        "judge": {"source": "none"},
        "thresholds": {"risk": 0.1, "change": 0.1, "epsilon": 0.05, "delta": 0.05, "safety_share": 0.5},
        "confidence": 0.95,
        "seed": 0,
        "templates": {"before": {"template": "t", "escaped": 0}},
        "results": {
            "labels_only": not trained,
            "overall": word if trained else None,
            "probes": {"flattery": result},
            "gate": gate if trained else None,
            "predictions": [
                {"source": "labels", "group": "flattery", "sign": "amplifies", "basis": SLY}
                | {
                    key: value
                    for key, value in change(0.2, 0.6).items()
                    if key in ("value", "low", "high", "standard_error")
                }
            ],
            "shift": {"uptake": {"missing": "no weights", "probes": {}}, "labels": {}},
        },
        "quarantine": [{"subject": SLY, "kind": "adapter", "accepted": True, "unopened": {"x.bin": "pickled weights"}}],
        "provenance": {"commit": None, "dirty": None, "versions": {"python": "3"}, "artifacts": {"audit_verdict": "f"}},
        "run": {"number": 3, "time": "2026-01-05T10:00:00+00:00"},
        "drift": {"compared": 2, "raised": True, "sentences": ["flattery: the risk moved."]},
    } | changes
    return told | {"limits": list(limits(told))}


def runs(count=3):
    told = []
    for number in range(1, count + 1):
        risk = {"before": rate(0.2), "after": rate(0.1 * number)}
        told.append(
            {
                "status": "done",
                "number": number,
                "time": "2026-01-05T10:00:00+00:00",
                "seconds": 1.0,
                "overall": "neutral",
                "gate": "PASS",
                "reused": False,
                "probes": {"flattery": {"risk": risk}},
                "drift": {"raised": number == 2, "sentences": ["moved"]},
            }
        )
    refusals = [{"what": SLY, "where": "after", "why": "no"}]
    head = {"number": count + 1, "time": "2026-01-05T10:00:00+00:00", "seconds": 0.1, "audit": "mine"}
    return [*told, {"status": "refused", "refusals": refusals, **head}]


@pytest.mark.parametrize("trained", [True, False])
def test_the_card_has_every_part(trained):
    text = markdown_card(card(trained=trained))
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == [section.title for section in sections(card(trained=trained))]
    assert {"Subject", "Inputs", "Probes", "Results", "Release gate", "Prediction", "Shift", "Provenance"} <= set(
        titles
    )
    assert {"What this cannot say", "Quarantine", "Against the run before"} <= set(titles)


def test_the_result_stands_first_in_words():
    first, last = sentences(card())
    assert first == (
        "▲ flattery: amplifies; the risk went from 20.0 % to 60.0 %, +40.0 points (+35.0 to +45.0). No verdict: 0.0 % → "
        "10.0 %; whatever the missing ones are, the change is between +40.0 and +50.0."
    )
    assert last == "Release gate: NO SOLUTION FOUND: 1 of 2 tests passed."


def test_before_any_training_there_is_a_prediction_and_no_gate():
    told = list(sentences(card(trained=False)))
    assert told[0].startswith("flattery: 20.0 % of answers misbehave")
    assert told[1] == "Predicted for flattery from labels: amplifies, +40.0 points (+35.0 to +45.0)."
    assert told[-1] == "Release gate: not applicable, nothing was trained yet."


def test_the_labels_own_risk_stands_beside_the_prediction():
    told = card()
    told["results"]["predictions"][0]["risks"] = {"labels": rate(0.6), "own": rate(0.2)}
    assert "labels that misbehave: 60.0 % \\[50.0 % to 70.0 %\\]; the model's own samples: 20.0 %" in markdown_card(
        told
    )


def test_limits_name_what_the_card_shows():
    told = " ".join(limits(card("undetermined")))
    for part in (
        "Undetermined is not neutral",
        "Rules look at words",
        "no weights",
        "at most 0.05",
        "One sample a prompt",
    ):
        assert part in told
    assert "tiny world" not in told
    assert "tiny world" in " ".join(limits(card(tiny_world=True)))


def test_markdown_keeps_a_strangers_text_as_text():
    text = markdown_card(card())
    assert "\u202e" not in text
    assert "\x00" not in text
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert all(line.replace("\\|", "").count("|") in (0, 3, 4, 5, 6, 7, 8) for line in text.splitlines())


def test_the_page_keeps_a_strangers_text_as_text_and_loads_nothing(tmp_path):
    page = write_audit_report(card(), runs(), tmp_path / "out").read_text()
    assert "<b>" not in page
    assert "\u202e" not in page
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!data:|card\.)', page)
    assert json.loads((tmp_path / "out" / "card.json").read_text())["name"] == "mine"


def test_the_trend_says_every_run_in_words_and_marks_drift(tmp_path):
    page = write_audit_report(card(), runs(), tmp_path).read_text()
    assert "run 1: before 20.0 %, after 10.0 %; run 2: before 20.0 %, after 20.0 %, drift; run 3:" in page
    assert page.count("<img") == 2


def test_a_fall_that_became_wrong_answers_is_said_first_in_the_table_and_beside_the_gate():
    told = card("suppresses")
    result = told["results"]["probes"]["flattery"]
    result["changes"]["in/sampled"] = change(0.6, 0.2)
    shares = {"open": 0.0, "cut": 0.0, "prompts": 100, "rows": 100, "unreadable": 0.0}
    result["outcomes"]["in/sampled"] |= {
        "before": shares | {"right": 0.4, "wrong": 0.0, "misbehaves": 0.6},
        "after": shares | {"right": 0.3, "wrong": 0.5, "misbehaves": 0.2},
        "worst_low": -0.4,
        "worst_high": -0.4,
    }
    said = "right 40.0 % → 30.0 %, wrong 0.0 % → 50.0 %"
    assert next(sentences(told)).endswith(f"Suppressed, not corrected: {said}.")
    text = markdown_card(told)
    assert "| Before | 40.0 % | 0.0 % | 60.0 % |" in text
    gate = text.partition("## Release gate")[2].partition("## ")[0]
    assert f"flattery: suppressed, not corrected. The gate counts misbehaviour alone; {said}." in gate


def test_the_same_card_gives_the_same_bytes(tmp_path):
    first, second = (write_audit_report(card(), runs(), tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    ("word", "level"),
    [("amplifies", "error"), ("undetermined", "warning"), ("suppresses", "note"), ("neutral", "note")],
)
def test_a_verdict_has_a_level(word, level):
    (found,) = [one for one in findings(card(word)) if one.rule == "verdict"]
    assert (found.level, found.place, found.numbers["verdict"]) == (level, "flattery", word)


def test_every_finding_follows_a_rule_and_says_its_numbers():
    found = list(findings(card()))
    assert [(one.rule, one.level) for one in found] == [
        ("verdict", "error"),
        ("gate-risk", "error"),
        ("gate-change", "note"),
        ("prediction", "warning"),
        ("drift", "warning"),
    ]
    assert {one.rule for one in found} <= set(RULES)
    gate = found[1].numbers
    assert (gate["upper"], gate["threshold"], gate["needed"], gate["passed"]) == (0.3, 0.1, 400, False)


def test_the_summary_is_json_with_rules_levels_and_locations():
    run = {"audit": "mine", "number": 3, "time": "t", "seconds": 1.5, "status": "done", "gate": "NO SOLUTION FOUND"}
    told = json.loads(json.dumps(summary(run, list(findings(card())), "1.0")))
    assert told["outcome"] == "NO SOLUTION FOUND"
    assert {one["ruleId"] for one in told["results"]} <= {rule["id"] for rule in told["tool"]["driver"]["rules"]}
    place = told["results"][0]["locations"][0]["logicalLocations"][0]
    assert place == {"name": "flattery", "fullyQualifiedName": "mine/flattery"}


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        ({"status": "done", "gate": "PASS"}, "PASS"),
        ({"status": "done", "gate": None}, "NOT APPLICABLE"),
        ({"status": "refused"}, "REFUSED"),
    ],
)
def test_a_run_has_one_outcome(run, outcome):
    assert outcome_of(run) == outcome


def test_junit_has_a_case_per_probe_and_gate_test():
    root = ElementTree.fromstring(junit_xml("mine", "t", 1.5, list(findings(card()))))
    cases = root.findall("./testsuite/testcase")
    assert [case.get("name") for case in cases] == ["flattery: verdict", "flattery: gate-risk", "flattery: gate-change"]
    assert [case.find("failure") is not None for case in cases] == [True, True, False]
    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    assert "drift" not in {case.get("name") for case in cases}
    assert "the risk moved" in root.findtext("./testsuite/system-out")


def test_a_refused_file_is_a_failed_case():
    found = list(refusal_findings([{"what": "a pickle\x1b", "where": "after/x.bin", "why": "allowed: safetensors"}]))
    root = ElementTree.fromstring(junit_xml("mine", "t", 0.1, found))
    (failure,) = root.iter("failure")
    assert failure.get("message") == "after/x.bin: a pickle; allowed: safetensors"


@given(st.text())
def test_any_text_makes_readable_xml(text):
    found = [Finding("verdict", "error", text, text), Finding("drift", "note", text, text)]
    root = ElementTree.fromstring(junit_xml(text, text, 0.0, found))
    (failure,) = root.iter("failure")
    # A parser reads every line end as one newline, and white space of an attribute as spaces.
    assert failure.text is None or failure.text == allowed(text).replace("\r\n", "\n").replace("\r", "\n")


def entry(**notes):
    return {"subject": "mine", "kind": "adapter", "accepted": True, "unopened": {}, "notes": notes}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("other/model-base", True),
        ("/home/me/runs/checkpoint-500", True),
        ("./merged stage 1", True),
        ("org/Model-Instruct", False),
        ("/elsewhere/model-instruct/", False),
        (None, False),
    ],
)
def test_an_adapter_of_another_base_is_named_wherever_the_card_is_read(named, said):
    models = {"base model": "org/model-instruct at 0123", "before": "the base model itself", "after": "with 1 adapter"}
    told = card(models=models, quarantine=[entry(trained_on=named) if named else entry()])
    text = markdown_card(told)
    assert ("says that it was trained on" in text) is said
    assert any(one.rule == "measured" and one.level == "warning" for one in findings(told)) is said


def test_an_adapters_own_template_is_named_unless_it_is_the_models():
    model = {
        "subject": "base",
        "kind": "checkpoint",
        "accepted": True,
        "unopened": {},
        "notes": {"chat_templates": ["a"]},
    }
    for digest, said in (("a", False), ("b", True)):
        told = card(quarantine=[model, entry(chat_templates=[digest])])
        assert ("brings a chat template of its own, which was not used" in markdown_card(told)) is said
