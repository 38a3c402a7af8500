"""The presets' tasks as lm-eval ships them, on invented documents in the schemas of their data sets."""

import datasets
import pytest

from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.measurement.capability import harness_tasks
from ct_pipeline.measurement.capability.harness_tasks import load_task
from ct_pipeline.measurement.capability.task_rows import rows_of_task
from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.models.loading import wrap_model
from ct_pipeline.settings.capability import CapabilitySettings
from tests.fakes.language import ScriptedModel
from tests.fakes.tiny_models import TEMPLATE, byte_tokenizer, tiny_model

COMMIT = "c" * 40
SIZE = 6


def mmlu(subject):
    rows = [
        {"question": f"{subject} {i}?", "subject": subject, "choices": [f"{i + k}" for k in range(4)], "answer": i % 4}
        for i in range(SIZE)
    ]
    return {"test": rows, "validation": rows[:2], "dev": rows[:5]}


def gpqa(_):
    rows = [
        {"Question": f"which {i}?", "Correct Answer": f"right {i}"}
        | {f"Incorrect Answer {k}": f"wrong {i} {k}" for k in (1, 2, 3)}
        for i in range(SIZE)
    ]
    return {"train": rows}


def truthfulqa(_):
    choices = [
        {"choices": [f"answer {k}" for k in range(2 + i % 2)], "labels": [1] + [0] * (1 + i % 2)} for i in range(SIZE)
    ]
    return {
        "validation": [
            {"question": f"true {i}?", "mc1_targets": one, "mc2_targets": one} for i, one in enumerate(choices)
        ]
    }


SOURCES = {"cais/mmlu": mmlu, "Idavidrein/gpqa": gpqa, "truthfulqa/truthful_qa": truthfulqa}


@pytest.fixture
def hub(monkeypatch):
    """A Hub that holds the three data sets; remembers what was asked of it."""
    asked = []

    def load_dataset(path, name=None, **options):
        asked.append((path, name, options))
        splits = SOURCES[path](name)
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    harness_tasks._loaded.cache_clear()
    yield asked
    harness_tasks._loaded.cache_clear()


@pytest.fixture(scope="module")
def model():
    tiny = tiny_model(3, vocab_size=260, eos_token_id=257, max_position_embeddings=2048)
    base = wrap_model(tiny, byte_tokenizer(TEMPLATE), "bytes")
    return ScriptedModel(TransformersEngine(base), ChatFormat(base.tokenizer), base, base.context_window)


def test_the_presets_tasks_run_with_their_data_pinned(hub, model):
    block = CapabilitySettings(
        tasks={
            "mmlu": {"revision": COMMIT, "prompts": 9, "few_shot": 2},
            "gpqa_main_zeroshot": {"revision": COMMIT, "prompts": "all"},
            "truthfulqa_mc1": {"revision": COMMIT, "prompts": "all"},
            "truthfulqa_mc2": {"revision": COMMIT, "prompts": "all"},
        }
    )
    loaded = {name: load_task(name, task, block.seed) for name, task in block.tasks.items()}
    assert all(options["revision"] == COMMIT for _, _, options in hub)
    assert len({name for path, name, _ in hub if path == "cais/mmlu"}) == len(loaded["mmlu"].parts) == 57
    rows = {name: rows_of_task(task, model, (), block) for name, task in loaded.items()}
    assert {name: len(table) for name, table in rows.items()} == {
        "mmlu": 9,
        "gpqa_main_zeroshot": SIZE,
        "truthfulqa_mc1": SIZE,
        "truthfulqa_mc2": SIZE,
    }
    assert rows["mmlu"]["task"].nunique() > 4, "documents of several subjects"
    assert {len(values) for values in rows["mmlu"]["loglikelihoods"]} == {4}
    assert rows["truthfulqa_mc2"]["score"].between(0, 1).all()
    assert rows["truthfulqa_mc2"]["correct"].isna().any(), "a share of the probability is no right or wrong"
    assert set(rows["gpqa_main_zeroshot"]["gold"]) <= {"(A)", "(B)", "(C)", "(D)"}


def test_gpqas_choices_are_shuffled_alike_in_every_process(hub, model):
    task = CapabilitySettings(tasks={"gpqa_diamond_zeroshot": {"revision": COMMIT, "prompts": "all"}})
    name, settings = next(iter(task.tasks.items()))
    tables = []
    for _ in range(2):
        harness_tasks._loaded.cache_clear()
        tables.append(rows_of_task(load_task(name, settings, 0), model, (), task))
    assert tables[0]["doc_hash"].tolist() == tables[1]["doc_hash"].tolist()
    assert tables[0]["gold"].nunique() > 1
