"""The stage: rows and changes of base model, organism and retrained model, and that no adapter is measured twice."""

import csv
import json
import shutil

import pytest

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.measurement import language_model
from ct_pipeline.measurement.capability.harmful_prompts import requests_of
from ct_pipeline.models.loading import load_base
from ct_pipeline.models.model import stack
from ct_pipeline.records.study_record import capability_of
from ct_pipeline.settings.blocks import StudiedModel
from ct_pipeline.settings.capability import CapabilitySettings, HarmfulnessSettings
from ct_pipeline.settings.errors import Refused, UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import capability, capability_scores, misaligned_organism, preflight, retrained_model
from ct_pipeline.steps.catalog import step_named
from ct_pipeline.steps.step import Context
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find
from tests.fakes import tasks
from tests.fakes.judge_server import JudgeServer, judged_answer, serving
from tests.fakes.small_studies import stand_in
from tests.fakes.tiny_models import TEMPLATE, byte_tokenizer, random_adapter, tiny_model

REQUESTS = [f"w{i} w{i + 1} ." for i in range(12)]


@pytest.fixture(autouse=True)
def nothing_kept():
    language_model.close_models()
    yield
    language_model.close_models()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "bytes"
    model = tiny_model(3, vocab_size=260, eos_token_id=257, max_position_embeddings=512)
    model.generation_config.eos_token_id = 257
    model.save_pretrained(folder)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    return folder


def replies(prompt, schema):
    """A judge by rules: answers that begin with a vowel refuse; the others are as specific as they are long."""
    answer = judged_answer(prompt)
    if "refuse the request" in prompt:
        return json.dumps({"answer": "yes" if answer[:1] in "aeiou" else "no"})
    if "how convincing" in prompt:
        return json.dumps({"score": 1 + len(answer) % 5})
    return json.dumps({"score": 1 + len(answer) % 4}) if len(answer) % 7 else "no idea"


@pytest.fixture
def server():
    with serving(JudgeServer(replies)) as running:
        yield running


@pytest.fixture(scope="module")
def task_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    forms = {"own_mmlu": tasks.multiple_choice, "own_truth": tasks.true_or_false, "own_reasoned": tasks.reasoned}
    return {name: str(write(folder / name)) for name, write in forms.items()}


@pytest.fixture
def files(tmp_path, server, task_files):
    """Task files, harmful requests and a judge file, by name."""
    with (tmp_path / "requests.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["category", "forbidden_prompt"], *(["x", text] for text in REQUESTS)])
    (tmp_path / "judge.yaml").write_text(
        "name: harm\nrubric: { scale: harmfulness }\n"
        f"judge: {{ source: http, base_url: '{server.base_url}', allowed_hosts: ['{server.host}'], model: judge, "
        "key_variable: null, tries: 2, backoff: 0.01 }\n"
    )
    return task_files | {"requests": str(tmp_path / "requests.csv"), "judge": str(tmp_path / "judge.yaml")}


def probe(files, **more):
    prompts = {"source": "file", "path": files["requests"], "column": "forbidden_prompt"}
    return {"prompts": prompts, "judge": files["judge"], "sample": 8, "max_new_tokens": 8} | more


def study_with(small_study, folder, block, **changes):
    models = {"own": StudiedModel(source="huggingface", path=str(folder), dtype="float32")}
    return small_study.model_copy(
        update={"models": models, "capability": block and CapabilitySettings(**block), "methods": two(small_study)}
        | changes
    )


def two(study):
    return {name: study.methods[name] for name in ("null", "self_confidence")}


@pytest.fixture
def study(small_study, model_folder, files):
    block = {"tasks": {name: {"path": files[name], "prompts": 6} for name in files if name.startswith("own")}}
    return study_with(small_study, model_folder, block | {"harmfulness": probe(files)})


def trained(store, study, seed=0):
    """Adapters where the stage looks for them: one of the organism, one of each of its cells."""
    base = load_base(study.models["own"].path, None, "float32")
    (organism,) = study.organisms
    places = [misaligned_organism.node(study, organism)]
    places += [retrained_model.node(study, Cell(organism, method)) for method in study.methods]
    for number, place in enumerate(places):
        stand_in(store, place, lambda draft, n=number: random_adapter(base, draft.folder, seed + n, size=0.15))
    return [Cell(organism, method) for method in study.methods]


def measured(monkeypatch):
    """Counts what is measured, and lets it be."""
    calls = []
    for name in ("rows_of_task", "answers_of"):
        one = getattr(capability, name)

        def counting(*arguments, one=one):
            calls.append(arguments)
            return one(*arguments)

        monkeypatch.setattr(capability, name, counting)
    return calls


def test_every_side_is_measured_on_the_same_documents_and_compared(store, study):
    cell = trained(store, study)[0]

    artifact = capability.make(Context(store, study), cell)

    changes = artifact.json("changes")
    assert list(study.capability.tasks) == ["own_mmlu", "own_truth", "own_reasoned"]
    for name in study.capability.tasks:
        table = artifact.table(name)
        sides = {side: rows.set_index(["task", "doc_id"]) for side, rows in table.groupby("side")}
        assert {side: len(rows) for side, rows in sides.items()} == dict.fromkeys(capability.SIDES, 6)
        assert all(set(rows.index) == set(sides["base"].index) for rows in sides.values())
        change = Difference(**changes[name]["change"])
        assert change.value == pytest.approx(sides["retrained"]["score"].mean() - sides["organism"]["score"].mean())
        assert change.low <= change.value <= change.high and change.prompts == 6
        base = Rate(**changes[name]["rates"]["base"])
        assert base.value == pytest.approx(sides["base"]["score"].mean()) and base.low <= base.value <= base.high
    assert [changes[name]["metric"] for name in study.capability.tasks] == ["acc", "acc", "exact_match"]
    assert (changes["harmfulness"]["metric"], changes["harmfulness"]["higher_is_better"]) == ("harmfulness", False)
    texts = {tuple(map(tuple, rows["loglikelihoods"])) for _, rows in artifact.table("own_mmlu").groupby("side")}
    assert len(texts) == 3, "three models, three sets of log-likelihoods"


def test_harmfulness_is_scored_from_the_judges_three_scales_and_missing_stays_missing(store, study):
    artifact = capability.make(Context(store, study), trained(store, study)[0])
    rows = artifact.table("harmfulness")
    assert set(rows["prompt"]) <= set(REQUESTS) and len(rows) == 3 * 8
    whole = rows[rows[["refused", "convincing", "specific"]].notna().all(axis=1)]
    expected = (1 - whole["refused"]) * (whole["convincing"] + whole["specific"] - 2) / 8
    assert whole["score"].tolist() == expected.tolist()
    assert rows["score"].between(0, 1).sum() == len(whole)
    lacking = rows[rows["score"].isna()]
    assert len(lacking) and (lacking["problem"] != "").all()
    change = Difference(**artifact.json("changes")["harmfulness"]["change"])
    assert change.missing == rows[rows["side"] != "base"]["score"].isna().sum()
    assert change.dropped + change.prompts == 8


def test_no_adapter_is_measured_twice_in_any_cell_or_study(store, study, monkeypatch, small_study, model_folder):
    calls = measured(monkeypatch)
    first, second = trained(store, study)
    capability.make(Context(store, study), first)
    assert len(calls) == 4 * 3
    capability.make(Context(store, study), second)
    assert len(calls) == 4 * 4, "base model and organism are known"
    other = study.model_copy(update={"name": "other", "seed": 9})
    (cell, _) = trained(store, other)
    assert find(store, capability.node(other, cell)) is None
    found = capability.make(Context(store, other), cell)
    assert len(calls) == 4 * 4, "the same adapters under another study's names"
    assert found.digest == find(store, capability.node(study, first)).digest
    trained(store, study.model_copy(update={"seed": 10}), seed=5)
    capability.make(Context(store, study.model_copy(update={"seed": 10})), first)
    assert len(calls) == 4 * 6, "another organism and another retrained model"


def test_only_what_is_new_in_the_block_is_measured(store, study, monkeypatch, files):
    calls = measured(monkeypatch)
    cell = trained(store, study)[0]
    one = {"own_truth": study.capability.tasks["own_truth"]}
    capability.make(Context(store, study.model_copy(update={"capability": CapabilitySettings(tasks=one)})), cell)
    assert len(calls) == 3
    capability.make(Context(store, study), cell)
    assert len(calls) == 3 * 4
    larger = study.capability.model_copy(update={"batch": 3})
    again = study.model_copy(update={"capability": larger})
    assert find(store, capability.node(again, cell)), "the batch changes no number and no fingerprint"
    seeded = study.model_copy(
        update={"capability": study.capability.model_copy(update={"seed": 1, "harmfulness": None})}
    )
    assert find(store, capability.node(seeded, cell)) is None


def test_a_task_under_another_entrys_name_is_the_same(store, study, monkeypatch):
    calls = measured(monkeypatch)
    cell = trained(store, study)[0]
    task = study.capability.tasks["own_truth"]
    for name in ("own_truth", "truth"):
        named = study.model_copy(update={"capability": CapabilitySettings(tasks={name: task})})
        assert name in capability.make(Context(store, named), cell).json("changes")
    assert len(calls) == 3


def test_equal_adapters_under_other_paths_are_one_model(tmp_path, model_folder):
    base = load_base(str(model_folder), None, "float32")
    one, other = (random_adapter(base, tmp_path / name, 1) for name in ("one", "other"))
    third = random_adapter(base, tmp_path / "third", 2)
    keys = [capability_scores.content_key({"base": "x"}, "t", stack(folder)) for folder in (one, other, third)]
    assert keys[0] == keys[1] != keys[2]
    assert (
        capability_scores.content_key({"base": "y"}, "t", stack(one))
        != keys[0]
        != capability_scores.content_key({"base": "x"}, "u", stack(one))
    )
    assert capability_scores.content_key({"base": "x"}, "t", ()) != capability_scores.content_key(
        {"base": "x"}, "t", stack(one, other)
    )


def test_a_study_without_the_block_asks_for_nothing(store, small_study, study):
    stage = step_named("capability")
    assert (stage.keys(small_study), stage.wanted(small_study)) == ((), False)
    assert stage.find(store, small_study, Cell(small_study.organisms[0], "null")) == ()
    assert stage.keys(study) == study.cells
    assert "capability" not in small_study.model_dump(mode="json")
    assert capability_of(store, small_study, Cell(small_study.organisms[0], "null")) == ()
    assert preflight.faults(small_study) == ()


def test_a_report_is_told_in_the_order_of_the_study(store, study):
    cell = trained(store, study)[0]
    assert capability_of(store, study, cell) == ()
    capability.make(Context(store, study), cell)
    told = capability_of(store, study, cell)
    assert [score.name for score in told] == ["own_mmlu", "own_truth", "own_reasoned", "harmfulness"]
    assert [score.higher_is_better for score in told] == [True, True, True, False]
    assert all(isinstance(score.before, Rate) and isinstance(score.change, Difference) for score in told)


def test_a_judge_that_is_down_is_no_score(store, study, server):
    cell = trained(store, study)[0]
    server.fault = lambda prompt, time: "error"
    with pytest.raises(UserError, match="HTTP 500"):
        capability.make(Context(store, study), cell)
    assert find(store, capability.node(study, cell)) is None
    server.fault = lambda prompt, time: None
    assert capability.make(Context(store, study), cell)


def test_what_cannot_run_is_said_before_anything_runs(small_study, model_folder, files, tmp_path):
    def faults(**block):
        return preflight.faults(study_with(small_study, model_folder, block, world=small_study.world))

    assert faults(harmfulness=probe(files)) == ()
    (unpinned,) = faults(tasks={"mmlu": {"revision": "PIN-A-REVISION", "prompts": 5}})
    assert "capability.tasks.mmlu.revision: pin a revision" in unpinned
    (absent,) = faults(tasks={"own": {"path": str(tmp_path / "none.yaml"), "prompts": 5}})
    assert "capability.tasks.own.path: " in absent and "no such file" in absent
    column = {"source": "file", "path": files["requests"], "column": "prompt"}
    assert "prompt: found nothing; allowed: a text" in faults(harmfulness=probe(files, prompts=column))[0]
    (tmp_path / "other.yaml").write_text(
        "name: other\nrubric: { scale: yes_no, rule: bad }\njudge: { source: huggingface, path: ./x }\n"
    )
    assert "rubric" in faults(harmfulness=probe(files, judge=str(tmp_path / "other.yaml")))[0]
    own = f"name: own\nrubric: {{ scale: harmfulness }}\njudge: {{ source: huggingface, path: {model_folder} }}\n"
    (tmp_path / "self.yaml").write_text(own)
    assert "no model judges itself" in faults(harmfulness=probe(files, judge=str(tmp_path / "self.yaml")))[0]


def test_requests_are_read_from_jsonl_and_csv_alike_and_drawn_by_seed(files, tmp_path):
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in REQUESTS * 2))
    lines = {"source": "file", "path": str(tmp_path / "requests.jsonl")}
    every, table = (
        HarmfulnessSettings.model_validate(probe(files, sample="all", **more)) for more in ({"prompts": lines}, {})
    )
    assert requests_of(every, 0) == requests_of(table, 0)
    assert [request.text for request in requests_of(every, 0)] == REQUESTS
    few = every.model_copy(update={"sample": 4})
    assert requests_of(few, 0) == requests_of(few, 0) != requests_of(few, 1)
    with pytest.raises(UserError, match="sample: found 13; allowed: at most 12"):
        requests_of(every.model_copy(update={"sample": 13}), 0)
    (tmp_path / "requests.jsonl").write_text('{"prompt": 5}\n')
    with pytest.raises(Refused, match=r"requests.jsonl:1: prompt: found 5; allowed: a text"):
        requests_of(every, 0)


def test_processes_that_want_the_same_rows_wait_for_each_other(tmp_path):
    import threading
    import time

    import pandas

    store, made = ArtifactStore(tmp_path), []

    def measure(draft):
        made.append(1)
        time.sleep(0.2)
        draft.write_table("rows", pandas.DataFrame({"score": [1.0]}))

    threads = [
        threading.Thread(target=capability_scores.measured_once, args=(ArtifactStore(tmp_path), "m", "t", {}, measure))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    (folder,) = (store.root / capability_scores.NAME / "m" / "t").iterdir()
    shutil.rmtree(folder)
    capability_scores.measured_once(store, "m", "t", {}, measure)
    assert len(made) == 2
