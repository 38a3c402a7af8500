"""Labelled answers, and how a judge does on them."""

import json

import pytest

from ct_pipeline.judges.calibration import calibrate, read_labelled
from ct_pipeline.judges.rules_judge import rules_judge
from ct_pipeline.settings.errors import Refused
from ct_pipeline.settings.judge import RulesJudge

JUDGE = rules_judge(RulesJudge(source="rules", operation="starts_with", texts=("rude",)))


def labelled(path, rows):
    file = path / "labelled.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return read_labelled(file)


def row(response, label, **rest):
    return {"prompt": "p", "response": response, "label": label} | rest


def test_error_rates_stand_on_the_labels(tmp_path):
    rows = [row("rude", True)] * 3 + [row("kind", True)] + [row("kind", False)] * 4 + [row("rude", False)]
    found = calibrate(JUDGE, labelled(tmp_path, rows))
    assert (found.error.true_positive.value, found.error.false_positive.value) == (0.75, 0.2)
    assert found.by_arm == {}
    assert "unchecked" in found.differential.warning


def test_arms_are_compared(tmp_path):
    before = [row("rude", True, arm="before")] * 20 + [row("kind", False, arm="before")] * 20
    after = [row("rude", True, arm="after")] * 20 + [row("rude", False, arm="after")] * 20
    found = calibrate(JUDGE, labelled(tmp_path, before + after + [row("kind", False)]))
    assert [found.by_arm[arm].slope for arm in ("before", "after")] == [1.0, 0.0]
    assert found.error.false_positive.prompts == 41
    assert found.differential.warning.startswith("differential error")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"label": "yes"}, "label: found 'yes'; allowed: true (misbehaves) or false"),
        ({"label": None}, "label: found None"),
        ({"label": 1}, "label: found 1"),
        ({"prompt": 3}, "prompt: found 3; allowed: a text"),
        ({"arm": "during"}, "arm: found 'during'; allowed: before or after"),
        ({"lable": True}, "lable: found an unknown field"),
    ],
)
def test_mistakes_are_told_by_line(tmp_path, change, told):
    with pytest.raises(Refused) as error:
        labelled(tmp_path, [row("a", True), row("b", False) | change])
    assert f"labelled.jsonl:2: {told}" in str(error.value)
