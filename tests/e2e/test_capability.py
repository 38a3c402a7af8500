"""Capability and safety of a finished study, as docs/capability.md says: only what is new is made, and it is reported."""

import csv
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
import yaml

from ct_pipeline.interventions.files import read_study
from ct_pipeline.settings.capability import CapabilitySettings
from ct_pipeline.settings.task import TaskFile
from ct_pipeline.steps import capability
from ct_pipeline.store.node import find
from ct_pipeline.tinyworld.world import TinyWorld
from tests.e2e.runs import ROOT, Place
from tests.fakes.judge_server import JudgeServer, judged_answer, serving

PAGE = (ROOT / "docs" / "capability.md").read_text()
BLOCK, TASK = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
METHODS = ("null", "bct")


def questions(study) -> list[dict]:
    """The world's plain questions with two answers, in the form of the page's example."""
    (example,) = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    found = TinyWorld(study.world).questions("in")
    others = [*found[1:], found[0]]
    rows = [
        {"question": one.text, "choices": [f"it is {each.answer} ." for each in (one, other)], "answer": 0}
        for one, other in zip(found, others, strict=True)
        if one.answer != other.answer
    ]
    assert set(rows[0]) == set(example)
    return rows


def judge(prompt: str, schema: dict | None) -> str:
    if "refuse the request" in prompt:
        return json.dumps({"answer": "no" if "i agree" in judged_answer(prompt) else "yes"})
    return json.dumps({"score": 4})


@pytest.fixture(scope="module")
def measured(finished: Place, tmp_path_factory: pytest.TempPathFactory):
    """A copy of the finished study, its block as the page has it, without what has to be fetched; run for two cells."""
    folder = tmp_path_factory.mktemp("capability")
    place = finished.copy(folder / "results")
    study = yaml.safe_load(place.spec.read_text())
    block = BLOCK["capability"] | {"chat_template": True}
    block["tasks"] = {name: settings for name, settings in block["tasks"].items() if "path" in settings}
    (folder / "tasks").mkdir()
    (folder / "tasks" / "own_questions.yaml").write_text(yaml.safe_dump(TASK))
    rows = questions(read_study(place.spec))
    (folder / "tasks" / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "requests.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["forbidden_prompt"], *([row["question"]] for row in rows[:30])])
    with serving(JudgeServer(judge)) as server:
        text = (ROOT / "studies" / "judges" / "harmfulness.yaml").read_text()
        (folder / "judge.yaml").write_text(text.replace("127.0.0.1:8001", server.host))
        block["tasks"]["own_questions"]["path"] = str(folder / "tasks" / "own_questions.yaml")
        block["harmfulness"]["prompts"]["path"] = str(folder / "requests.csv")
        block["harmfulness"] |= {"judge": str(folder / "judge.yaml"), "sample": 20, "max_new_tokens": 24}
        place.spec.write_text(yaml.safe_dump(study | {"capability": block}, sort_keys=False))
        before = place.artifacts()
        outcome = place.study("--only", "sycophancy," + ",".join(METHODS))
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        yield place, before, server
    shutil.rmtree(folder)


def test_the_block_of_the_page_is_one() -> None:
    block = CapabilitySettings.model_validate(BLOCK["capability"])
    assert list(block.tasks) == ["mmlu", "gpqa_main_zeroshot", "truthfulqa_mc2", "own_questions"]
    assert TaskFile.model_validate(TASK).task == "own_questions"


@pytest.mark.slow
def test_only_capability_and_the_report_are_made(measured) -> None:
    place, before, _ = measured
    made = {path.split("/")[0] for path in place.artifacts().keys() - before.keys()}
    assert made == {"capability", "capability_scores", "study_report"}
    scores = [path for path in place.artifacts() if path.startswith("capability_scores/")]
    assert len(scores) == 2 * (2 + len(METHODS)), "base model, organism and retrained models, each once"


@pytest.mark.slow
def test_the_base_model_knows_its_world_and_changes_are_paired(measured) -> None:
    place, _, server = measured
    study = read_study(place.spec)
    cells = [cell for cell in study.cells if cell.organism.kind == "sycophancy" and cell.method in METHODS]
    for cell in cells:
        artifact = find(place.store, capability.node(study, cell))
        changes = artifact.json("changes")
        assert changes["own_questions"]["rates"]["base"]["value"] > 0.7
        assert changes["own_questions"]["change"]["prompts"] == 40
        assert changes["harmfulness"]["change"]["prompts"] == 20
        assert 0 <= changes["harmfulness"]["rates"]["retrained"]["value"] <= 0.75
    assert server.asked.total() <= 3 * 20 * (2 + len(METHODS))


@pytest.mark.slow
def test_the_report_and_mlflow_have_it(measured) -> None:
    place, *_ = measured
    (report,) = (place.home / "reports").iterdir()
    page, text = (report / "index.html").read_text(), (report / "report.md").read_text()
    assert 'id="capability"' in page and "## Capability and safety" in text
    with (report / "tables" / "capability.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["method"], row["measured"]) for row in rows} == {
        (method, name) for method in METHODS for name in ("own_questions", "harmfulness")
    }
    with sqlite3.connect(place.home / "mlflow" / "mlflow.db") as database:
        names = {row[0] for row in database.execute("select name from runs where status = 'FINISHED'")}
    assert {f"tiny-sycophancy-40/{method} capability and safety" for method in METHODS} <= names


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(measured) -> None:
    place, *_ = measured
    before = place.artifacts()
    outcome = place.study("--only", "sycophancy," + ",".join(METHODS))
    assert "Nothing to do" in outcome.stdout or outcome.returncode == 0
    assert place.artifacts() == before


def test_the_preset_judge_is_a_judge_file() -> None:
    from ct_pipeline.measurement.capability.checks import judge_of
    from ct_pipeline.settings.blocks import TinyWorldModel
    from ct_pipeline.settings.capability import HarmfulnessSettings

    settings = HarmfulnessSettings.model_validate(
        BLOCK["capability"]["harmfulness"] | {"judge": str(Path(ROOT / "studies" / "judges" / "harmfulness.yaml"))}
    )
    assert judge_of(settings, TinyWorldModel(source="tinyworld")).rubric.scale == "harmfulness"
