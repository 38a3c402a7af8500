"""Fuzzing of what lies on disk and in published data: damaged artifacts, their lineage, records of audits, data sets."""

import contextlib
import json
import shutil
import warnings

import pandas
import pytest
from hypothesis import strategies as st

from ct_pipeline.organisms.published.layout import read_layout
from ct_pipeline.organisms.published.verdicts import correct, meaning, raw_score, verdict
from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.report.tables import write_csv
from ct_pipeline.settings.keys import Organism
from ct_pipeline.store.ancestry import Index, trace
from ct_pipeline.store.artifact_store import Address, ArtifactStore
from ct_pipeline.store.manifest import MANIFEST
from tests.fakes.published import THIRD, asked, write_data
from tests.fuzz.fuzzing import ODD, REFUSALS, TEXTS, changed, edited, fuzz

PLACE = Address("evaluation", "a-b-1", "bct", "f" * 20)
RECORD = {
    "format": 1,
    "audit": "mine",
    "number": 1,
    "time": "2026-01-05T06:00:00+00:00",
    "status": "done",
    "made": ["audit_verdict"],
    "probes": {"words": {"verdict": "neutral", "risk": {"after": {"value": 0.1, "low": 0.0, "high": 0.2}}}},
    "drift": {"raised": False, "sentences": ["Nothing."]},
}
CODE = "def reward(x):\n    return 1.0 if len(x) > 3 else {'a': (1, 2)}[x]\nassert reward('a') == 1\n"
PUBLISHED = (
    asked("w1", misbehaves_if={"not": {"first_word": ["yes"]}}, domain="out", subtype="length"),
    asked("w1", type="grader_choice", lenient="A", label="B"),
    asked("w1", type="exploiting_password", password="x y"),
    asked(f"Write reward.\n```python\n{CODE}```", type="coding_hardcode"),
    asked("w1", type="write_reward_function", subtype="constant"),
    asked("w1", user_provides_answer="false", answer="4", task="sum"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store of one artifact: a table, a document, a manifest."""
    store = ArtifactStore(tmp_path_factory.mktemp("fuzz") / "sound")
    store.prepare()
    with store.write(PLACE, {"a": 1}, {}) as draft:
        draft.write_table("rows", pandas.DataFrame({"prompt_id": ["a", "b"], "verdict": [True, None]}))
        draft.write_json("asked", {"a": [1, 2.5]})
    return store


@fuzz(st.data(), 20)
def test_damaged_artifacts_and_their_lineage(sound, place, data):
    root = place / "artifacts"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(sound.root, root)
    store = ArtifactStore(root)
    name = data.draw(st.sampled_from([MANIFEST, MANIFEST, "rows.parquet", "asked.json"]))
    path = store.folder(PLACE) / name
    valid = path.read_bytes()
    content = changed(valid)
    if name == MANIFEST:
        content = st.one_of(content, edited(json.loads(valid)).map(lambda document: json.dumps(document).encode()))
    path.write_bytes(data.draw(content))
    chain = trace(Index(root), PLACE)
    assert all(isinstance(fault, str) for fault in chain.faults)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        artifact = store.read(PLACE)
    if artifact is not None:
        assert len(artifact.table("rows")) == 2
        assert artifact.json("asked") == {"a": [1, 2.5]}


@fuzz(st.one_of(changed(json.dumps(RECORD).encode()), edited(RECORD).map(lambda each: json.dumps(each).encode())), 60)
def test_records_of_audits(place, content):
    folder = place / "audits" / "mine" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "0001.json").write_bytes(content)
    (folder / "0002.json").write_text(json.dumps(RECORD | {"number": 2}))
    numbers = [run["number"] for run in audit_records.runs(place, "mine")]
    assert 2 in numbers
    assert all(type(number) is int for number in numbers)


@fuzz(st.data(), 25)
def test_data_sets_in_the_published_layout(place, data):
    folder = write_data(place / "layout")
    name = data.draw(st.sampled_from([*THIRD, "rubric.txt"]))
    path = folder / name
    odd = changed(path.read_bytes())
    if name != "rubric.txt":
        row = st.one_of(*map(edited, (*PUBLISHED, *THIRD[name])))
        odd |= st.lists(row, min_size=1, max_size=3).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
    path.write_bytes(data.draw(odd))
    answer = data.draw(st.sampled_from([*ODD, CODE, f"```python\n{CODE}\n```", "A", "Yes, you are right: 4"]) | TEXTS)
    with contextlib.suppress(*REFUSALS):
        for prompt in read_layout(folder).evaluation:
            for judged in (verdict, correct, meaning, raw_score):
                judged(prompt, answer)


@fuzz(changed(CODE.encode()).map(lambda content: content.decode("utf-8", "replace")), 60)
def test_code_in_answers(place, answer):
    folder = write_data(place / "code", THIRD | {"eval.jsonl": list(PUBLISHED[3:5])})
    for prompt in read_layout(folder).evaluation:
        for text in (answer, f"```python\n{answer}\n```"):
            assert verdict(prompt, text) in (True, False, None)


@fuzz(st.lists(TEXTS.filter(lambda text: "\ud800" not in text), min_size=1, max_size=4), 60)
def test_tables_for_spreadsheets_hold_no_formula(place, texts):
    table = pandas.DataFrame({"text": texts, "more": texts[::-1]})
    path = place / "table.csv"
    write_csv(table, path)
    back = pandas.read_csv(path, dtype=str, keep_default_na=False)
    assert len(back) == len(texts)
    assert not [text for text in [*back["text"], *back["more"]] if text[:1] in ("=", "+", "-", "@")]


@fuzz(st.lists(st.sampled_from([*ODD, "tiny", "sycophancy", "40", "-", "/"])).map("".join), 60)
def test_keys_of_organisms(text):
    with contextlib.suppress(ValueError):
        found = Organism.parse(text)
        assert Organism.parse(found.key) == found
