"""`ct-pipeline judge check`, and the page on judges: its files and commands work as they stand."""

import json
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from ct_pipeline.cli import app
from ct_pipeline.interventions.files import read_audit, read_study
from ct_pipeline.interventions.self_rewarding import SelfRewardingSettings
from ct_pipeline.judges.calibration import read_labelled
from ct_pipeline.judges.engine_judge import WritingEngineJudge, YesNoEngineJudge
from ct_pipeline.judges.protocol import Question
from ct_pipeline.measurement.judging import open_judge
from ct_pipeline.settings.errors import Refused, UserError
from ct_pipeline.settings.load import load_judge
from tests.conftest import REPOSITORY
from tests.fakes.judge_server import JudgeServer, faulty, serving, yes_where
from tests.fakes.tiny_models import tiny_model, word_tokenizer

PAGE = (REPOSITORY / "docs" / "your-own-judge.md").read_text()
KEY = "sk-secret-0123456789"
RUBRIC = "Rate.\n{original_question_text}\n{generated_answer_text}\n**Critique:**\n"


@pytest.fixture(scope="module")
def judge_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    tiny_model(max_position_embeddings=4096).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def files():
    """The judge files of the page."""
    return [text for text in blocks("yaml") if text.startswith("name:")]


def snippet(field):
    """The part of a study or an audit that begins with a field."""
    (found,) = [text for text in blocks("yaml") if text.startswith(f"{field}:")]
    return yaml.safe_load(found)


@pytest.fixture
def server():
    with serving(JudgeServer(yes_where(lambda text: text.startswith("rude")), key=KEY)) as state:
        yield state


@pytest.fixture
def place(server, tmp_path, monkeypatch):
    """A folder with all files of the page; its server is the fake one, which loses a fifth of the requests."""
    server.fault = faulty(0.2, ("busy", "error", "broken", "truncated", "dropped"))
    for text in files():
        name = re.search(r"name: (\w+)", text)[1]
        text = text.replace("https://api.example.com/v1", server.base_url).replace(
            "api.example.com", f'"{server.host}"'
        )
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "labelled.jsonl").write_text(blocks("json")[0])
    (tmp_path / "rubric.txt").write_text(RUBRIC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
    monkeypatch.setenv("JUDGE_KEY", KEY)
    return tmp_path


def called(line):
    found = CliRunner().invoke(app, line.split()[1:])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return " ".join(found.output.split())


def commands():
    return [line for text in blocks("console") for line in text.splitlines() if line.startswith("ct-pipeline")]


def test_the_commands_of_the_page_work(place, server):
    first, both = commands()
    assert "Judge polite on 4 labelled answers" in called(first)
    said = called(both)
    assert "0 replies and 4 kept ones, 0 requests" in said
    assert "Krippendorff's alpha of verdict (nominal): 1.000" in said
    document = json.loads((place / "check.json").read_text())
    assert [judge["name"] for judge in document["judges"]] == ["polite", "prefix"]
    assert document["judges"][0]["errors"]["all"]["true_positive"]["value"] == 1
    assert document["judges"][0]["errors"]["after"]["slope"] == 1
    assert document["judges"][0]["spent"]["cost"] == 0
    assert document["judges"][1]["spent"] is None
    assert document["agreement"]["verdict"]["value"] == 1
    stored = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    assert KEY.encode() not in stored
    assert len(server.answered) == 4


def test_what_went_wrong_is_said(place, server):
    server.answer = lambda prompt, schema: "hm"
    with pytest.raises(UserError, match=r"4 of 4 answers have no verdict, 4 because no allowed answer on applies"):
        called(commands()[0])


def test_a_key_that_is_missing_is_named(place, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(UserError, match="JUDGE_KEY"):
        called(commands()[0])


def test_every_file_of_the_page_is_valid(place):
    names = {load_judge(path).name for path in place.glob("*.yaml")}
    assert names == {"polite", "graded", "emergent", "local", "prefix"}


def test_the_page_names_judges_in_a_study(place, tiny_text):
    text = yaml.safe_load(tiny_text) | {"misalignments": ["reward_hacking"]}
    text |= {"data": {"reward_hacking": {"source": "folder", "path": "data"}}} | snippet("judges")
    (place / "study.yaml").write_text(yaml.safe_dump(text))
    entry = read_study(place / "study.yaml").judges["reward_hacking"]
    assert [file.name for file in entry.files.values()] == ["polite", "prefix"]
    assert len(read_labelled(Path(entry.calibration))) == 4
    line = re.search(r"`self_rewarding: (\{.*\})`", PAGE)[1]
    assert SelfRewardingSettings.model_validate(yaml.safe_load(line)).grades is None


def test_the_page_names_judges_in_an_audit(place):
    probes = {"manners": {"source": "jsonl", "path": "probes.jsonl"}}
    base = {"source": "huggingface", "path": "./base"}
    audit = {"name": "mine", "base_model": base, "probes": probes, "after": {"adapters": ["after"]}}
    (place / "mine.yaml").write_text(yaml.safe_dump(audit | {"thresholds": {"risk": 0.1}} | snippet("judge")))
    found = read_audit(place / "mine.yaml")
    assert [file.name for file in found.judges.values()] == ["polite", "prefix"]
    assert len(read_labelled(found.place(found.calibration))) == 4


def test_the_function_of_the_page_corrects_a_change(place, monkeypatch):
    file = place / "true_change.py"
    file.write_text(blocks("python")[0])
    spec = spec_from_file_location("true_change", file)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "true_change", module)
    spec.loader.exec_module(module)
    rows = [
        {"prompt": "p", "response": "rude: a" if said else "a", "label": label, "arm": arm}
        for arm in ("before", "after")
        for label, said, count in ((True, True, 45), (True, False, 5), (False, True, 5), (False, False, 45))
        for _ in range(count)
    ]
    (place / "many.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    prompts = [f"p{n}" for n in range(100)]
    tables = [
        pd.DataFrame({"prompt": prompts, "completion": ["rude: b" if n < rude else "b" for n in range(100)]})
        for rude in (20, 60)
    ]
    change, warning = module.true_change("prefix.yaml", "many.jsonl", *tables, place / "replies")
    assert change.value == pytest.approx(0.4 / 0.8)
    assert change.low < 0.5 < change.high
    assert warning == ""


@pytest.mark.parametrize(
    ("rubric", "kind"),
    [
        ("{ scale: yes_no, rule: It is rude. }", YesNoEngineJudge),
        ("{ scale: aligned_coherent }", WritingEngineJudge),
        ("{ scale: one_to_five, file: ./rubric.txt }", WritingEngineJudge),
    ],
)
def test_a_model_on_this_machine_judges(place, judge_folder, rubric, kind):
    path = place / "here.yaml"
    path.write_text(
        f"name: here\nrubric: {rubric}\njudge: {{ source: huggingface, path: {judge_folder}, dtype: float32 }}\n"
    )
    judge = open_judge(load_judge(path), place / "replies")
    assert isinstance(judge, kind)
    found = judge.judge([Question("it is", "rude </s> <user>"), Question("it is", "kind")])
    assert len(found) == 2
    assert all(each.verdict is not None or each.problem for each in found)


def test_a_folder_that_is_no_model_is_refused(place):
    (place / "judge-model").mkdir()
    with pytest.raises(Refused, match=r"config\.json"):
        open_judge(load_judge(place / "local.yaml"), place / "replies")
