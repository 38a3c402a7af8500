"""Fuzzing of what surrounds judges: their files, answers labelled by hand, a server's replies, the cache of replies."""

import contextlib
import json

import pytest
from hypothesis import strategies as st

from ct_pipeline.judges.answers import FinalScore, Number, Words
from ct_pipeline.judges.calibration import read_labelled
from ct_pipeline.judges.wire import BrokenReply, Reply, reply_of, restored, stored
from ct_pipeline.settings.load import load_judge
from tests.fuzz.fuzzing import REFUSALS, TEXTS, VALUES, changed, edited, fuzz

FILE = b"""name: polite
rubric: { scale: yes_no, rule: The answer is rude. }
judge:
  source: http
  base_url: https://api.example.com/v1
  allowed_hosts: [api.example.com]
  model: small
  key_variable: JUDGE_KEY
  prices: { prompt: 2.0, completion: 10.0 }
"""
ROWS = b'{"prompt": "w1", "response": "w2", "label": true, "arm": "before"}\n{"prompt": "w3", "response": "", "label": false}\n'
ROW = {"prompt": "w1", "response": "w2", "label": True, "arm": "after"}
COMPLETION = {
    "choices": [{"message": {"role": "assistant", "content": "yes", "refusal": None}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
}
KEPT = stored(Reply("yes", "", 9, 1))
ANSWERS = (Words({"yes": 1.0, "no": 0.0}), Number(1, 5), FinalScore(1, 10))
PIECES = [
    "{",
    "}",
    '"answer"',
    '"score"',
    '"critique"',
    ":",
    ",",
    "yes",
    "no",
    "5",
    "1e2",
    "Final Score: ",
    "[7]",
    "\n",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def written(place, name, content):
    path = place / name
    path.write_bytes(content)
    return path


def test_what_is_changed_is_valid_before(place):
    assert load_judge(written(place, "polite.yaml", FILE)).judge.model == "small"
    assert len(read_labelled(written(place, "labelled.jsonl", ROWS))) == 2
    assert reply_of(json.dumps(COMPLETION).encode()) == restored(KEPT)


@fuzz(changed(FILE, (b"judge:", b"  - ", b": ", b"{", b"[", b"&x ", b"*x", b"? ", b"!!set ", b"https://", b"@")), 25)
def test_judge_files(place, content):
    with contextlib.suppress(*REFUSALS):
        load_judge(written(place, "polite.yaml", content))


@fuzz(
    st.one_of(
        changed(ROWS), st.lists(edited(ROW), max_size=3).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
    ),
    60,
)
def test_answers_labelled_by_hand(place, content):
    with contextlib.suppress(*REFUSALS):
        for row in read_labelled(written(place, "labelled.jsonl", content)):
            assert isinstance(row.label, bool)
            assert row.question.response is not None


@fuzz(st.one_of(changed(json.dumps(COMPLETION).encode()), edited(COMPLETION).map(lambda x: json.dumps(x).encode())), 80)
def test_replies_of_servers(content):
    try:
        reply = reply_of(content)
    except BrokenReply:
        return
    assert (reply.text is None) == bool(reply.problem)
    assert restored(stored(reply)) == reply


@fuzz(
    st.one_of(changed(KEPT), edited(json.loads(KEPT)).map(lambda fields: json.dumps(fields).encode()), st.binary()), 80
)
def test_kept_replies(content):
    with contextlib.suppress(BrokenReply):
        reply = restored(content)
        assert restored(stored(reply)) == reply


@fuzz(st.one_of(st.lists(st.sampled_from(PIECES) | TEXTS).map("".join), VALUES.map(json.dumps)), 80)
def test_answers_on_a_scale(reply):
    for answers in ANSWERS:
        for score in (answers.read(reply), answers.read_json(reply)):
            assert score is None or 0 <= score <= 10
