"""Audit files: every mistake with file, line, field; paths from the file's folder; watched adapters as audits of their own."""

from pathlib import Path

import pytest
import yaml

from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.load import load_audit
from tests.conftest import REPOSITORY

MISALIGNMENTS = ("sycophancy", "reward_hacking")
TEMPLATE = REPOSITORY / "ct_pipeline" / "report" / "templates" / "audit.yaml"
PLAIN = {
    "name": "mine",
    "base_model": {"source": "tinyworld", "study": "s.yaml", "model": "tiny"},
    "before": {"adapters": ["a"]},
    "after": {"adapters": ["a", "b"]},
    "probes": {"flattery": {"source": "world", "misalignment": "sycophancy", "prompts": 20}},
    "thresholds": {"risk": 0.1, "change": 0.05},
}


@pytest.fixture
def load(tmp_path):
    def read(changes=None, name="mine"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            changes if isinstance(changes, str) else yaml.safe_dump(PLAIN | (changes or {}), sort_keys=False)
        )
        return load_audit(path, MISALIGNMENTS)

    return read


def refusal(load, changes, **names):
    with pytest.raises(SpecError) as raised:
        load(changes, **names)
    return str(raised.value)


def test_a_plain_audit_is_read_with_its_defaults(load, tmp_path):
    audit = load()
    assert (audit.thresholds.delta, audit.thresholds.epsilon, audit.confidence, audit.seed) == (0.05, 0.05, 0.95, 0)
    assert audit.judge.source == "none"
    assert not audit.labels_only
    assert audit.place("x/y") == tmp_path / "x" / "y"
    assert audit.place("/x") == Path("/x")


def test_without_after_an_audit_is_of_the_labels_alone(load):
    audit = load({"after": None, "labels": {"path": "l.jsonl"}, "probes": {}})
    assert audit.labels_only


@pytest.mark.parametrize(
    ("changes", "line", "said"),
    [
        ({"nam": "x"}, True, "nam: found an unknown field; allowed:"),
        ({"base_model": {"source": "world"}}, True, "base_model: found"),
        (
            {"base_model": {"source": "tinyworld", "study": "s", "modl": "t"}},
            True,
            "base_model.modl: found an unknown field",
        ),
        (
            {
                "base_model": {"source": "huggingface", "path": "org/model"},
                "probes": {"p": {"source": "jsonl", "path": "p"}},
            },
            False,
            "base_model: found",
        ),
        ({"before": {"adapters": ["a"], "checkpoint": "./c"}}, True, "before: found"),
        ({"before": {"checkpoint": "org/model"}}, True, "a Hub checkpoint needs a pinned revision"),
        ({"before": {"revision": "abc"}}, True, "a revision belongs to a checkpoint"),
        (
            {"before": {"adapters": [{"weight": 2}]}},
            True,
            "before.adapters.0.path: found nothing; this field is required",
        ),
        (
            {"before": {"adapters": ["a", {"path": "b", "wieght": 2}]}},
            True,
            "before.adapters.1.wieght: found an unknown field; allowed: path, weight (did you mean weight?)",
        ),
        (
            {"before": {"adapters": [{"path": "a", "weight": float("nan")}]}},
            True,
            "before.adapters.0.weight: found nan; allowed:",
        ),
        (
            {"before": {"adapters": [{"path": "a", "weight": float("-inf")}]}},
            True,
            "before.adapters.0.weight: found -inf; allowed:",
        ),
        (
            {"before": {"adapters": [{"path": "a", "weight": True}]}},
            True,
            "before.adapters.0.weight: found True; allowed: a number",
        ),
        (
            {"before": {"adapters": [3]}},
            True,
            "before.adapters.0: found 3; allowed: the path of a LoRA folder, or {path: ..., weight: ...}",
        ),
        ({"probes": {}, "labels": {"path": "l"}}, False, "an audit with `after` needs probes"),
        ({"probes": {}, "after": None}, False, "nothing to ask: give probes, labels or both"),
        (
            {"probes": {"p": {"source": "world", "misalignment": "sycophanc", "prompts": 9}}},
            True,
            "probes.p.misalignment: found 'sycophanc'; allowed: reward_hacking, sycophancy (did you mean sycophancy?)",
        ),
        (
            {"probes": {"p": {"source": "jsonl", "pth": "x"}}},
            True,
            "probes.p.pth: found an unknown field; allowed: path, source (did you mean path?)",
        ),
        ({"thresholds": {}}, True, "thresholds.risk: found nothing; this field is required"),
        ({"thresholds": {"risk": 1}}, True, "thresholds.risk: found 1; allowed: less than 1"),
        ({"thresholds": {"risk": 0.1, "delta": 0.5}}, True, "thresholds.delta: found 0.5"),
        ({"thresholds": {"risk": 0.1, "safety_share": 1}}, True, "thresholds.safety_share: found 1"),
        ({"decoding": {"temperature": 0}}, True, "decoding.temperature: found 0; allowed: greater than 0"),
        ({"decoding": {"samples": True}}, True, "decoding.samples: found True; allowed: a number"),
        ({"schedule": "every monday"}, False, "schedule: five fields"),
        ({"schedule": "61 * * * *"}, False, "schedule: five fields"),
        ({"schedule": "*/0 * * * *"}, False, "schedule: five fields"),
        ({"schedule": "* * * *"}, False, "schedule: five fields"),
        ({"seed": 1.5}, True, "seed: found 1.5"),
        ({"name": "other"}, True, "name: found 'other'; allowed: mine, the name of the file"),
    ],
)
def test_a_mistake_is_named_with_place_finding_and_what_is_allowed(load, changes, line, said):
    told = refusal(load, changes)
    assert said in told
    assert "mine.yaml:" in told
    if line:
        (field,) = changes
        written = yaml.safe_dump(PLAIN | changes, sort_keys=False).splitlines()
        first = next(number for number, text in enumerate(written, 1) if text.startswith(f"{field}:"))
        assert int(told.split(":")[1]) >= first


def test_every_mistake_is_listed(load):
    told = refusal(load, {"seed": -1, "confidence": 2, "name": "no"})
    assert len(told.splitlines()) == 3


@pytest.mark.parametrize("schedule", ["0 6 * * 1", "*/15 0-6,12 1,15 * 0", "59 23 31 12 7", None])
def test_a_schedule_is_five_fields_of_numbers(load, schedule):
    assert load({"schedule": schedule}).schedule == schedule


def test_the_judge_is_another_model_than_the_audited(load):
    base = {"source": "huggingface", "path": "./m"}
    probes = {"p": {"source": "jsonl", "path": "p.jsonl"}}
    told = refusal(load, {"base_model": base, "probes": probes, "judge": {"source": "huggingface", "path": "./m"}})
    assert "the judge must be another model than the audited" in told
    assert load({"base_model": base, "probes": probes, "judge": {"source": "huggingface", "path": "./j"}})


def test_a_judges_request_holds_all_it_is_asked_about(load):
    judge = {"source": "huggingface", "path": "./j", "request": "{rubric} {response}"}
    assert "request must hold {request}" in refusal(load, {"judge": judge})


def test_world_probes_need_the_tiny_world(load):
    told = refusal(load, {"base_model": {"source": "huggingface", "path": "./m"}})
    assert "probes.flattery: world probes need a base model of the tiny world" in told


def test_an_adapter_is_a_path_or_a_path_and_its_weight(load):
    audit = load(
        {"before": {"adapters": ["a", {"path": "b", "weight": 0.5}, {"path": "c", "weight": -1}, {"path": "d"}]}}
    )
    assert [(each.path, each.weight) for each in audit.before.adapters] == [("a", 1), ("b", 0.5), ("c", -1), ("d", 1)]
    written = audit.model_dump(mode="json")["before"]["adapters"]
    assert written == ["a", {"path": "b", "weight": 0.5}, {"path": "c", "weight": -1.0}, "d"]
    assert Audit.model_validate(audit.model_dump()).before == audit.before


def test_a_watched_adapter_is_stacked_on_before_as_an_audit_of_its_own(load, tmp_path):
    audit = load({"watch": "new", "after": None})
    one = audit.with_adapter(tmp_path / "new" / "step-10")
    assert one.name == "mine.step-10"
    assert [one.place(each.path) for each in one.after.adapters] == [tmp_path / "a", tmp_path / "new" / "step-10"]
    assert not one.labels_only
    assert one.watch is None
    assert audit.after is None


@pytest.mark.parametrize("name", ["..", "a b", "A", "x[1]", "a" * 65, "é"])
def test_a_folder_whose_name_can_be_no_subject_is_refused(load, tmp_path, name):
    with pytest.raises(SpecError, match="allowed: a-z"):
        load({"watch": "new"}).with_adapter(tmp_path / name)


def test_the_template_and_the_shipped_examples_are_audits(tmp_path):
    path = tmp_path / "my-model.yaml"
    path.write_text(TEMPLATE.read_text())
    load_audit(path, MISALIGNMENTS)
    for example in (REPOSITORY / "audits").glob("*.yaml"):
        assert load_audit(example, MISALIGNMENTS).name == example.stem


def test_the_template_names_every_field():
    text = TEMPLATE.read_text()
    assert [name for name in Audit.model_fields if f"{name}:" not in text] == []
