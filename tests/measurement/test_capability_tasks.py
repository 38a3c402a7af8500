"""Tasks: what a task file may hold, the fixed draw, the rows, and the same accuracies as lm-eval's own evaluation."""

import json
import random
from typing import ClassVar

import numpy
import pytest
import yaml

from ct_pipeline.engine.harness_model import harness_model
from ct_pipeline.engine.harness_scorer import HarnessScorer
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.measurement.capability import harness_tasks
from ct_pipeline.measurement.capability.harness_tasks import load_task
from ct_pipeline.measurement.capability.task_files import read_own_task
from ct_pipeline.measurement.capability.task_rows import rows_of_task
from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.models.loading import wrap_model
from ct_pipeline.models.model import stack
from ct_pipeline.settings.capability import CapabilitySettings, TaskSettings
from ct_pipeline.settings.errors import Refused, SpecError, UserError
from tests.fakes import tasks
from tests.fakes.language import ScriptedModel
from tests.fakes.tiny_models import TEMPLATE, byte_tokenizer, random_adapter, tiny_model

FOLDERS = {"own_mmlu": tasks.multiple_choice, "own_truth": tasks.true_or_false, "own_reasoned": tasks.reasoned}


@pytest.fixture(scope="module")
def base():
    model = tiny_model(3, vocab_size=260, eos_token_id=257, max_position_embeddings=1024)
    model.generation_config.eos_token_id = 257
    return wrap_model(model, byte_tokenizer(TEMPLATE), "bytes")


@pytest.fixture(scope="module")
def model(base):
    return ScriptedModel(TransformersEngine(base), ChatFormat(base.tokenizer), base, base.context_window)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return {name: write(folder / name) for name, write in FOLDERS.items()}


def loaded(files, name, **more):
    return load_task(name, TaskSettings(**{"path": str(files[name]), "prompts": "all"} | more), 0)


def block(files, **more):
    return CapabilitySettings(
        tasks={name: {"path": str(path), "prompts": "all"} for name, path in files.items()}, batch=7, **more
    )


@pytest.mark.parametrize("templated", [False, True])
@pytest.mark.parametrize("name", FOLDERS)
def test_scores_are_those_of_lm_evals_own_evaluation(files, model, name, templated):
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    rows = rows_of_task(loaded(files, name), model, (), block(files, chat_template=templated))
    manager = TaskManager(include_defaults=False)
    theirs = manager.load([read_own_task(files[name]).config(files[name].parent / "cache")])
    scorer = HarnessScorer(model.engine, model.chat, model.window, (), 64)
    chat = {"apply_chat_template": templated, "fewshot_as_multiturn": templated}
    found = evaluate(harness_model(scorer, templated), theirs, bootstrap_iters=0, **chat)
    metric = "exact_match,strict" if name == "own_reasoned" else "acc,none"
    assert rows["score"].mean() == pytest.approx(found["results"][name][metric])
    assert len(rows) == tasks.SIZE
    assert rows["doc_hash"].is_unique


@pytest.mark.parametrize("name", ["own_mmlu", "own_truth"])
def test_accuracies_are_those_of_lm_evals_own_model(files, base, model, name):
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    rows = rows_of_task(loaded(files, name), model, (), block(files))
    theirs = TaskManager(include_defaults=False).load([read_own_task(files[name]).config(files[name].parent / "cache")])
    own = HFLM(pretrained=base.model, tokenizer=base.tokenizer, backend="causal", batch_size=4)
    found = evaluate(own, theirs, bootstrap_iters=0)
    assert rows["score"].mean() == pytest.approx(found["results"][name]["acc,none"])
    logged = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    values = [[one[0] for one in sample["filtered_resps"]] for sample in logged]
    for expected, ours in zip(values, rows["loglikelihoods"], strict=True):
        assert list(ours) == pytest.approx(expected, abs=1e-3)


def test_rows_say_what_was_asked_and_what_the_model_said(files, model):
    rows = rows_of_task(loaded(files, "own_mmlu"), model, (), block(files))
    assert list(rows["gold"][:4]) == ["0", "1", "2", "3"]
    assert [len(values) for values in rows["loglikelihoods"]] == [4] * tasks.SIZE
    assert (rows["prediction"] == [str(int(numpy.argmax(v))) for v in rows["loglikelihoods"]]).all()
    assert (rows["correct"] == (rows["gold"] == rows["prediction"])).all()
    text = rows_of_task(loaded(files, "own_reasoned", filter="flexible"), model, (), block(files))
    assert text["response"].str.len().gt(0).any()
    assert set(text["prediction"]) <= {"[invalid]", "(A)", "(B)", "(C)", "(D)"}


def test_the_draw_is_fixed_and_does_not_depend_on_the_model(files, model, base, tmp_path):
    few = loaded(files, "own_truth", prompts=7)
    assert few.drawn == loaded(files, "own_truth", prompts=7).drawn
    assert len(few.drawn) == 7 and few.drawn != loaded(files, "own_truth").drawn[:7]
    path = TaskSettings(path=str(files["own_truth"]), prompts=7)
    assert load_task("own_truth", path, 1).drawn != few.drawn
    adapter = stack(random_adapter(base, tmp_path, 1))
    plain, adapted = (rows_of_task(few, model, terms, block(files)) for terms in ((), adapter))
    assert list(plain["doc_hash"]) == list(adapted["doc_hash"])
    assert [list(v) for v in plain["loglikelihoods"]] != [list(v) for v in adapted["loglikelihoods"]]


def test_a_subset_gives_a_document_the_score_that_it_has_among_all(files, model):
    few, every = (
        rows_of_task(loaded(files, "own_mmlu", prompts=prompts), model, (), block(files)).set_index("doc_id")
        for prompts in (5, "all")
    )
    assert few["score"].equals(every["score"][few.index])
    for number, values in few["loglikelihoods"].items():
        assert list(values) == pytest.approx(list(every["loglikelihoods"][number]), abs=1e-4)


def test_few_shot_examples_can_be_asked_for_where_a_task_has_some(files, model):
    asked = loaded(files, "own_mmlu", few_shot=3)
    assert asked.parts["own_mmlu"].config.num_fewshot == 3
    with pytest.raises(UserError, match="few_shot: found 2; allowed: 0, because own_truth has no examples"):
        loaded(files, "own_truth", few_shot=2)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"prompts": 21}, "prompts: found 21; allowed: at most 20"),
        ({"metric": "f1"}, "metric: found 'f1'; allowed: acc, acc_norm"),
        ({"filter": "strict"}, "filter: found 'strict'; allowed: none"),
    ],
)
def test_what_a_task_does_not_have_is_refused(files, more, text):
    with pytest.raises(UserError, match=text):
        loaded(files, "own_mmlu", **more)


def test_a_document_beyond_the_window_is_refused_by_name(files, base):
    short = ScriptedModel(TransformersEngine(base), ChatFormat(base.tokenizer), base, 8)
    with pytest.raises(UserError, match=r"capability.tasks.own_reasoned: .*12 new tokens leave no room"):
        rows_of_task(loaded(files, "own_reasoned"), short, (), block(files))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"doc_to_text": "{{ cycler.__init__.__globals__.os.popen('id') }}"},
            "doc_to_text: found line 1: the attribute",
        ),
        ({"doc_to_text": "{{ lipsum() }}"}, "doc_to_text: found line 1: lipsum"),
        ({"doc_to_choice": "{{ range(10**9) }}"}, "doc_to_choice: found line 1: pow"),
        ({"description": "{% include '/etc/passwd' %}"}, "description: found line 1: include"),
    ],
)
def test_a_template_beyond_plain_jinja_is_refused(tmp_path, fields, text):
    path = change(tasks.true_or_false(tmp_path), **fields)
    with pytest.raises(Refused, match=text):
        read_own_task(path)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"process_docs": "x"}, "process_docs: found an unknown field"),
        ({"include": "other.yaml"}, "include: found an unknown field"),
        ({"use_prompt": "a.yaml:b"}, "use_prompt: found an unknown field"),
        ({"unsafe_code": True}, "unsafe_code: found an unknown field"),
        ({"class": "os.system"}, "class: found an unknown field"),
        ({"dataset_path": "someone/data"}, "dataset_path: found 'someone/data'; allowed: 'json', 'csv' or 'parquet'"),
        ({"metric_list": [{"metric": "accuracy", "hf_evaluate": True}]}, "metric_list.0.hf_evaluate: found an unknown"),
        ({"metric_list": [{"metric": "bleurt"}]}, "metric_list.0.metric: found 'bleurt'"),
        ({"filter_list": [{"name": "x", "filter": [{"function": "custom"}]}]}, "filter_list.0.filter.0.function"),
        ({"test_split": "other"}, "it lacks other"),
        ({"validation_split": None}, "a test_split or a validation_split"),
    ],
)
def test_a_field_that_could_run_code_or_is_not_known_is_refused(tmp_path, fields, text):
    path = change(tasks.true_or_false(tmp_path), **fields)
    with pytest.raises(SpecError, match=text):
        read_own_task(path)


def test_a_function_tag_is_refused_before_its_file_is_read(tmp_path):
    path = tasks.true_or_false(tmp_path)
    (tmp_path / "utils.py").write_text("raise SystemExit('it ran')\n")
    path.write_text(path.read_text() + "process_docs: !function utils.process\n")
    with pytest.raises(SpecError, match="found the tag !function; allowed: plain YAML, because such a tag runs code"):
        read_own_task(path)


@pytest.mark.parametrize("name", ["../outside.jsonl", "/etc/passwd", "link.jsonl"])
def test_data_outside_the_folder_are_refused(tmp_path, name):
    (tmp_path / "outside.jsonl").write_text("{}\n")
    path = tasks.true_or_false(tmp_path / "task")
    (tmp_path / "task" / "link.jsonl").symlink_to(tmp_path / "outside.jsonl")
    with pytest.raises((Refused, SpecError)):
        read_own_task(change(path, dataset_kwargs={"data_files": {"validation": name}}))


def test_other_data_are_another_task(tmp_path):
    path = tasks.true_or_false(tmp_path)
    before = read_own_task(path).digest
    data = tmp_path / "validation.jsonl"
    data.write_text(data.read_text().replace("w1", "w2"))
    assert read_own_task(path).digest != before


def change(path, **fields):
    content = yaml.safe_load(path.read_text()) | fields
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_task_of_lm_eval_needs_its_data_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(harness_tasks, "_manager", lambda: FakeManager())
    settings = TaskSettings(revision="a" * 40, prompts=5)
    with pytest.raises(UserError, match=r"capability.tasks.gated: the data of gated_one at a{40} are not on this disk"):
        load_task("gated", settings, 0)
    with pytest.raises(UserError, match=r"no task 'gatde' \(did you mean gated\?\)"):
        load_task("gatde", settings, 0)
    with pytest.raises(UserError, match="program is a program of lm-eval"):
        load_task("program", settings, 0)


class FakeKind:
    def __init__(self, name):
        self.name = name


class FakeEntry:
    def __init__(self, kind, cfg=None, tags=()):
        self.kind, self.cfg, self.tags = FakeKind(kind), cfg, set(tags)


class FakeManager:
    """An index with a group, a tag, a task whose data are gated, and a task that is a program."""

    task_index: ClassVar = {
        "gated": FakeEntry("GROUP", {"task": ["some"]}),
        "some": FakeEntry("TAG", tags=["gated_one", "gated_two"]),
        "gated_one": FakeEntry("TASK", {"dataset_kwargs": {"name": "x"}}),
        "gated_two": FakeEntry("TASK", {}),
        "program": FakeEntry("PY_TASK"),
    }
    all_tasks: ClassVar = tuple(task_index)

    def load(self, specs):
        assert specs[0]["task"][0]["dataset_kwargs"]["revision"] == "a" * 40
        raise OSError("Dataset 'x/gated' is a gated dataset on the Hub")


def test_choices_that_a_task_shuffles_are_the_same_in_every_process(tmp_path):
    path = tasks.true_or_false(tmp_path)

    def shuffled(dataset):
        def one(row):
            choices = list(range(8))
            random.shuffle(choices)
            return {"order": json.dumps(choices)}

        return dataset.map(one)

    config = read_own_task(path).config(tmp_path / "cache") | {"process_docs": shuffled}
    random.seed(5)
    made = [harness_tasks._repeatable()(config=dict(config)) for _ in range(2)]
    after = random.random()
    orders = [[row["order"] for row in task.task_docs] for task in made]
    assert orders[0] == orders[1] and len(set(orders[0])) > 1
    random.seed(5)
    assert random.random() == after, "the generator of others is left as it was"
