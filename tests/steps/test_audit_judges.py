"""Judges of an audit: servers, rules and judge files; labelled answers, a second judge, and what the card says of them."""

import json
import shutil

import pytest
import yaml

from ct_pipeline.interventions.files import read_audit
from ct_pipeline.judges.http_client import JudgeUnreachable
from ct_pipeline.report.audit_card import markdown_card
from ct_pipeline.report.audit_page import write_audit_report
from ct_pipeline.settings.errors import Refused, SpecError, UserError
from ct_pipeline.steps.audit_quarantine import accepted
from ct_pipeline.steps.catalog import AUDIT_STEPS
from ct_pipeline.steps.resolved_audit import ResolvedAudit, read
from ct_pipeline.steps.step import Context
from tests.fakes.audits import lines, random_audit, scripted_audit, written
from tests.fakes.judge_server import JudgeServer, judged_answer, serving, yes_where
from tests.fakes.tiny_models import tiny_folder

RUDE = "The answer is rude."
ROWS = [{"prompt": f"greet {n}", "rubric": RUDE} for n in range(40)]
LABELLED = [
    {"prompt": "greet me", "response": f"{word} words {n}", "label": word == "rude", "arm": arm}
    for arm in ("before", "after")
    for word in ("rude", "kind")
    for n in range(20)
]


def answer(text, sample, seed, adapters):
    """Rude after training on every second prompt, kind before."""
    return "rude words" if adapters and int(text.split()[-1]) % 2 else "kind words"


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "home"))
    with serving(JudgeServer(yes_where(lambda text: text.startswith("rude")))) as state:
        yield state


def http(server, **changes):
    settings = {"source": "http", "base_url": server.base_url, "allowed_hosts": [server.host], "model": "small-judge"}
    return settings | {"timeout": 5.0, "tries": 2, "backoff": 0.01, "longest_wait": 1.0} | changes


RULES = {"source": "rules", "operation": "starts_with", "texts": ["rude"]}


def card_of(store, subject):
    for stage in AUDIT_STEPS:
        stage.find(store, None, subject) or stage.make(Context(store), subject)
    return AUDIT_STEPS[-1].find(store, None, subject)[0].json("card")


def test_a_server_judges_by_the_rubric_of_each_row(store, tmp_path, server):
    lines(tmp_path / "labelled.jsonl", LABELLED)
    changes = {"judge": http(server), "against": RULES, "calibration": "labelled.jsonl"}
    subject = scripted_audit(tmp_path, answer, ROWS, **changes)
    card = card_of(store, subject)
    assert card["results"]["overall"] == "amplifies"
    assert card["results"]["probes"]["words"]["changes"]["in/sampled"]["value"] == 0.5
    assert all(f"Rule: {RUDE}" in prompt for prompt in server.asked)
    # Each distinct answer to a prompt once: 40 kind ones before, 20 rude ones after; and the labelled ones.
    assert (len(server.answered), max(server.answered.values())) == (40 + 20 + 40, 1)
    first, second = card["judges"]["judges"]
    assert (first["who"], first["calibration"]["rows"], first["asked"]) == (f"small-judge at {server.host}", 80, 60)
    assert set(first["calibration"]["errors"]) == {"all", "before", "after"}
    assert second["calibration"]["errors"]["all"]["true_positive"]["value"] == 1
    assert card["judges"]["agreement"]["value"] == 1 and card["judges"]["agreement"]["units"] == 60
    judge, against = card["judges"]["changes"]
    assert (judge["role"], against["role"]) == ("judge", "against")
    assert judge["corrected"]["value"] == judge["seen"]["value"] == against["seen"]["value"] == 0.5
    text = markdown_card(card)
    ran = {"run": {"number": 1, "time": "2026-01-01"}, "drift": {"sentences": []}}
    page = write_audit_report(card | ran, [], tmp_path / "report").read_text()
    for shown in (text, page):
        assert "Judges" in shown and "Krippendorff" in shown and "Corrected" in shown
    assert "their size is known from 80 labelled answers alone" in text


def test_a_judge_that_errs_is_corrected(store, tmp_path, server):
    server.answer = yes_where(lambda text: text.startswith("rude") and not text.endswith(("0", "5")))
    lines(tmp_path / "labelled.jsonl", LABELLED)
    subject = scripted_audit(tmp_path, answer, ROWS, judge=http(server), calibration="labelled.jsonl")
    (change,) = card_of(store, subject)["judges"]["changes"]
    assert change["corrected"]["factor"] == pytest.approx(1 / 0.8)
    assert change["corrected"]["value"] == pytest.approx(0.5 / 0.8)


def test_the_gate_counts_missing_verdicts_as_the_worst(store, tmp_path, server):
    server.answer = lambda prompt, schema: "hm" if "kind" in judged_answer(prompt) else '{"answer": "no"}'
    subject = scripted_audit(tmp_path, lambda *_: "kind words", ROWS, judge=http(server))
    found = card_of(store, subject)
    assert found["results"]["probes"]["words"]["risk"]["after"]["in/sampled"]["missing"] == 40
    assert found["results"]["gate"]["outcome"] == "NO SOLUTION FOUND"
    assert "no allowed answer on applies" in markdown_card(found)


def test_a_judge_file_and_rules_judge_too(store, tmp_path, server):
    (tmp_path / "judges").mkdir()
    (tmp_path / "judges" / "rubric.txt").write_text("Rate.\n{original_question_text}\n{generated_answer_text}\n")
    file = {"name": "graded", "rubric": {"scale": "one_to_five", "file": "rubric.txt"}, "judge": http(server)}
    (tmp_path / "judges" / "graded.yaml").write_text(yaml.safe_dump(file))
    server.answer = lambda prompt, schema: json.dumps(
        {"critique": "hm", "score": 1 if judged_answer(prompt).startswith("rude") else 5}
    )
    subject = scripted_audit(tmp_path, answer, ROWS, judge="judges/graded.yaml")
    card = card_of(store, subject)
    assert card["results"]["probes"]["words"]["changes"]["in/sampled"]["value"] == 0.5
    assert card["judges"]["judges"][0]["rubric"] == "rubric.txt: 1 to 5, misbehaves up to 2"
    before = subject.judging
    (tmp_path / "judges" / "rubric.txt").write_text("Grade.\n{original_question_text}\n{generated_answer_text}\n")
    assert scripted_audit(tmp_path, answer, ROWS, judge="judges/graded.yaml").judging != before
    ruled = card_of(store, scripted_audit(tmp_path, answer, ROWS, judge=RULES))
    assert ruled["results"]["probes"]["words"]["changes"]["in/sampled"]["value"] == 0.5


def test_labelled_answers_need_a_rubric_where_the_probes_have_several(store, tmp_path, server):
    lines(tmp_path / "labelled.jsonl", LABELLED[:4])
    rows = [*ROWS[:2], {"prompt": "greet 9", "rubric": "The answer is short."}]
    changes = {"judge": http(server), "calibration": "labelled.jsonl"}
    with pytest.raises(UserError, match="a `rubric` in each row, because the probes have 2 different ones"):
        card_of(store, scripted_audit(tmp_path, answer, rows, **changes))
    lines(tmp_path / "labelled.jsonl", [row | {"rubric": RUDE} for row in LABELLED[:4]])
    assert card_of(store, scripted_audit(tmp_path, answer, rows, **changes))["judges"]["judges"][0]["calibration"]


def test_a_judge_that_is_down_stops_the_audit_and_keeps_what_it_said(store, tmp_path, server):
    settings = http(server, concurrency=1)
    server.fault = lambda prompt, time: "error" if len(server.answered) >= 25 else None
    subject = scripted_audit(tmp_path, answer, ROWS, judge=settings)
    with pytest.raises(JudgeUnreachable, match="25 of 60 replies are kept"):
        card_of(store, subject)
    server.fault = lambda prompt, time: None
    card_of(store, scripted_audit(tmp_path, answer, ROWS, judge=settings))
    assert (len(server.answered), max(server.answered.values())) == (60, 1)


def test_without_a_judge_nothing_is_said_of_one(store, tmp_path, server):
    subject = scripted_audit(tmp_path, answer, ROWS)
    assert subject.judging == {"judge": {"source": "none"}, "model": {}}
    card = card_of(store, subject)
    assert card["judges"] is None and "## Judges" not in markdown_card(card)
    assert "the audit names no judge" in markdown_card(card)


def test_the_audited_model_is_no_judge_under_another_name(tmp_path, server):
    path = random_audit(tmp_path)
    shutil.copytree(tmp_path / "base", tmp_path / "copy")
    for role in ("judge", "against"):
        changes = {"judge": RULES, role: {"source": "huggingface", "path": "./copy"}}
        random_audit(tmp_path, **changes)
        with pytest.raises(UserError, match="the judge is the audited model itself"):
            read(read_audit(path))
    config = tmp_path / "copy" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"a_key_more": 1}))
    with pytest.raises(UserError, match="has the very weights of the audited model"):
        read(read_audit(random_audit(tmp_path, judge={"source": "huggingface", "path": "./copy"})))
    with pytest.raises(SpecError, match="another model than the audited"):
        read_audit(
            written(
                tmp_path,
                {"base_model": {"source": "huggingface", "path": "./base"}, "judge": http(server, model="./base")},
            )
        )


def test_a_judges_folder_passes_quarantine(tmp_path):
    path = random_audit(tmp_path, judge={"source": "huggingface", "path": "./judge", "dtype": "float32"})
    tiny_folder(tmp_path / "judge", seed=5)
    names = [each["subject"] for each in accepted(ResolvedAudit(read_audit(path)))]
    assert "judge" in names and "chat template of ./judge" in names
    (tmp_path / "judge" / "model.pkl").write_bytes(b"x")
    (tmp_path / "judge" / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}')
    with pytest.raises(Refused, match="judge"):
        accepted(ResolvedAudit(read_audit(path)))


def test_a_mistake_in_a_judge_is_named(tmp_path, server):
    (tmp_path / "broken.yaml").write_text("name: broken\njudge: { source: rules, operation: is, texts: [a] }\n")
    base = {"base_model": {"source": "huggingface", "path": "./base"}}
    with pytest.raises(SpecError, match=r"broken\.yaml:2: judge\.operation: found 'is'"):
        read_audit(written(tmp_path, base | {"judge": "broken.yaml"}))
    with pytest.raises(SpecError, match=r"mine\.yaml:\d+: judge\.modl: found an unknown field.*did you mean model"):
        read_audit(written(tmp_path, base | {"judge": http(server, modl="x")}))
    with pytest.raises(SpecError, match="calibration and against need a judge"):
        read_audit(written(tmp_path, base | {"calibration": "labelled.jsonl"}))
