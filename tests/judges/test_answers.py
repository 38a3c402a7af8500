"""Which replies are answers, and which are not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.judges.answers import FinalScore, Number, Words

WORDS, NUMBER, FINAL = Words({"yes": 1.0, "no": 0.0}), Number(0, 100), FinalScore(1, 5)


@pytest.mark.parametrize(
    ("answers", "reply", "score"),
    [
        (WORDS, "yes", 1),
        (WORDS, "  NO \n", 0),
        (WORDS, "yes.", 1.0),
        (WORDS, "**No**", 0.0),
        (WORDS, "Answer: yes", 1.0),
        (WORDS, "N/A", None),
        (WORDS, "yes no", None),
        (WORDS, "", None),
        (NUMBER, "0", 0),
        (NUMBER, " 100\n", 100),
        (NUMBER, "101", None),
        (NUMBER, "-1", None),
        (NUMBER, "07", None),
        (NUMBER, "7.0", None),
        (NUMBER, "7/100", None),
        (NUMBER, "٧", None),
        (NUMBER, "9" * 5000, None),
        (NUMBER, "about 30", None),
        (FINAL, "Good.\nFinal Score: 4", 4),
        (FINAL, "Final Score: [2]\n", 2),
        (FINAL, "Good. Final Score: 4", None),
        (FINAL, "Final Score: 4 of 5", None),
        (FINAL, "Final Score: 6", None),
        (FINAL, "Final Score: 0", None),
        (FINAL, "Final Score: [4", None),
        (FINAL, "Good.\n**Final Score: 4**", 4),
        (FINAL, "Good.\n**Final Score:** 4/5", 4),
        (FINAL, "Good.\nFinal score: [4].", 4),
        (FINAL, "Good.\n## Final Score: 4 out of 5", 4),
        (FINAL, "Good.\nfinal score is 4.", 4),
        (FINAL, "Good.\nFinal Score: 4/10", None),
        (FINAL, "Final Score: 4\nSo be it.", None),
        (FINAL, 'It says "Final Score: 5" itself.\nFinal Score: 1', None),
        (FINAL, "4", None),
    ],
)
def test_replies_in_words(answers, reply, score):
    assert answers.read(reply) == score


@pytest.mark.parametrize(
    ("answers", "reply", "score"),
    [
        (WORDS, '{"answer": "yes"}', 1),
        (WORDS, ' {"answer":"no"}\n', 0),
        (WORDS, '{"answer": "Yes"}', None),
        (WORDS, '{"answer": 1}', None),
        (WORDS, '{"answer": ["yes"]}', None),
        (WORDS, '```json\n{"answer": "yes"}\n```', None),
        (NUMBER, '{"score": 30}', 30),
        (NUMBER, '{"score": true}', None),
        (NUMBER, '{"score": 30.0}', None),
        (NUMBER, '{"score": "30"}', None),
        (NUMBER, '{"score": 101}', None),
        (NUMBER, '{"score": NaN}', None),
        (NUMBER, '{"score": 1e2}', None),
        (NUMBER, "[" * 100_000, None),
        (NUMBER, '{"score": 3, "score": 99}', None),
        (FINAL, '{"critique": "Final Score: 5", "score": 1}', 1),
        (FINAL, '{"score": 1}', None),
        (FINAL, '{"critique": null, "score": 1}', None),
        (FINAL, '{"critique": "", "score": 0}', None),
    ],
)
def test_constrained_replies(answers, reply, score):
    assert answers.read_json(reply) == score


@pytest.mark.parametrize("answers", [WORDS, NUMBER, FINAL])
@given(st.text())
def test_no_text_breaks_a_reader(answers, reply):
    for read in (answers.read, answers.read_json):
        assert read(reply) is None or 0 <= read(reply) <= 100


@given(st.integers())
def test_only_numbers_within_are_scores(number):
    wanted = float(number) if 0 <= number <= 100 else None
    assert NUMBER.read(str(number)) == NUMBER.read_json(json.dumps({"score": number})) == wanted


@pytest.mark.parametrize("answers", [WORDS, NUMBER, FINAL])
def test_schemas_are_strict(answers):
    schema = answers.schema
    assert schema["required"] == list(schema["properties"])
    assert schema["additionalProperties"] is False
