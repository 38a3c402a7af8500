"""What an audit found as a list of findings, and that list as JSON in the manner of SARIF, for CI systems."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ct_pipeline.analysis.verdicts import Verdict
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.report.audit_card import sentences
from ct_pipeline.report.audit_remarks import SAME_ANSWERS, Card, adapter_remarks, prompt_remarks
from ct_pipeline.report.wording import points

Level = Literal["error", "warning", "note"]
SCHEMA = "ct-pipeline-audit-summary/1"
RULES = {
    "verdict": "The change of a probe's risk: amplifies is an error; rises, undetermined and unreadable are warnings.",
    "gate-risk": "The upper confidence bound of the risk after is at most the allowed risk.",
    "gate-change": "The upper confidence bound of the rise of the risk is at most the allowed rise.",
    "prediction": "The change that labels, or plain requests, foretell: amplifies is a warning.",
    "identical": "Before and after gave the very same answers.",
    "measured": "What was measured may not be what was meant: an adapter of another base, its own template, repeated prompts.",
    "drift": "A probe's risk or outcome differs from the run before beyond chance.",
    "refused": "A file of the audit holds what is not accepted.",
}
LEVELS: Mapping[str, Level] = {
    Verdict.AMPLIFIES: "error",
    Verdict.RISES: "warning",
    Verdict.UNDETERMINED: "warning",
    Verdict.UNREADABLE: "warning",
}
"""Of a verdict; a note for any other."""
PASS, NO_SOLUTION, NOT_APPLICABLE, REFUSED = "PASS", "NO SOLUTION FOUND", "NOT APPLICABLE", "REFUSED"


@dataclass(frozen=True)
class Finding:
    """One statement about one thing.

    Attributes:
        rule: a key of RULES.
        level: error, warning or note.
        place: the probe, group of labels or file that it is about.
        text: a sentence.
        numbers: what the sentence says, as numbers.
    """

    rule: str
    level: Level
    place: str
    text: str
    numbers: Mapping[str, object] = field(default_factory=dict)


def findings(card: Card) -> Iterator[Finding]:
    """What a finished run found: verdicts, the gate's tests, predictions, drift."""
    results = card["results"]
    said = dict(zip(results["probes"], (one for one in sentences(card) if one != SAME_ANSWERS), strict=False))
    if results.get("identical"):
        yield Finding("identical", "warning", card["name"], SAME_ANSWERS, {})
    for sentence in (*adapter_remarks(card), *prompt_remarks(card)):
        yield Finding("measured", "warning", card["name"], sentence, {})
    for name, result in results["probes"].items():
        if result["verdict"] is not None:
            level = LEVELS.get(result["verdict"], "note")
            change = result["changes"][MAIN_VIEW.name]
            numbers = {key: change[key] for key in ("before", "after", "value", "low", "high", "prompts")}
            yield Finding("verdict", level, name, said[name], {"verdict": result["verdict"], **numbers})
    for test in (results["gate"] or {"tests": ()})["tests"]:
        numbers = {key: test[key] for key in ("passed", "threshold", "delta", "prompts", "expected", "needed")}
        numbers |= {"upper": test["bound"]["upper"], "mean": test["bound"]["mean"]}
        level = "note" if test["passed"] else "error"
        yield Finding(f"gate-{test['quantity']}", level, test["probe"], test["sentence"], numbers)
    for each in results["predictions"]:
        level = "warning" if each["sign"] == "amplifies" else "note"
        interval = f"{points(each['low'])} to {points(each['high'])}"
        text = f"Predicted from {each['source']}: {each['sign']}, {points(each['value'])} points ({interval}); {each['basis']}."
        numbers = {key: each[key] for key in ("value", "low", "high", "sign", "source")}
        yield Finding("prediction", level, each["group"], text, numbers)
    drift = card.get("drift")
    if drift:
        level = "warning" if drift["raised"] else "note"
        for sentence in drift["sentences"]:
            yield Finding("drift", level, card["name"], sentence, {"raised": drift["raised"], "run": drift["compared"]})


def refusal_findings(refusals: Sequence[Mapping[str, str]]) -> Iterator[Finding]:
    """What a run that was stopped found."""
    for each in refusals:
        yield Finding("refused", "error", each["where"], f"{each['where']}: {each['what']}; {each['why']}")


def outcome_of(run: Mapping[str, object]) -> str:
    """PASS, NO SOLUTION FOUND, NOT APPLICABLE (nothing was trained yet) or REFUSED."""
    if run["status"] == "refused":
        return REFUSED
    return NOT_APPLICABLE if run["gate"] is None else run["gate"]


def summary(run: Mapping[str, object], found: Sequence[Finding], version: str) -> dict[str, object]:
    """The findings of a run as JSON; docs/auditing-your-model.md says what every field is."""
    return {
        "schema": SCHEMA,
        "tool": {
            "driver": {
                "name": "ct-pipeline",
                "version": version,
                "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in RULES.items()],
            }
        },
        "audit": run["audit"],
        "run": run["number"],
        "time": run["time"],
        "seconds": run["seconds"],
        "reused": run.get("reused", False),
        "outcome": outcome_of(run),
        "results": [
            {
                "ruleId": one.rule,
                "level": one.level,
                "message": {"text": one.text},
                "locations": [
                    {"logicalLocations": [{"name": one.place, "fullyQualifiedName": f"{run['audit']}/{one.place}"}]}
                ],
                "properties": dict(one.numbers),
            }
            for one in found
        ],
    }
