"""Judged text cannot leave its marks."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.judges.delimiting import delimited, neutralised

CONTROL = [
    "<|im_start|>",
    "<|eot_id|>",
    "</s>",
    "<s>",
    "[INST]",
    "[/INST]",
    "<start_of_turn>",
    "<<SYS>>",
    "<bos>",
    "<｜User｜>",
]
PIECES = st.lists(st.sampled_from([*CONTROL, "<", "|", ">", "[", "answer ", "end of ", "a", " ", "\n", "0" * 16, "]"]))


@pytest.mark.parametrize(
    "token", [*CONTROL, "<|IM_START|>", "[answer 0123456789abcdef]", "[end of request 0123456789abcdef]"]
)
def test_control_tokens_and_marks_are_broken_up(token):
    found = neutralised(f"a{token}b")
    assert token not in found
    assert found.replace(" ", "") == f"a{token}b".replace(" ", "")


@pytest.mark.parametrize(
    "text", ["", "a < b | c > d", "[1] and [end of file]", "x <= 3", "<b>bold</b>", "1 << 2", "naïve 🙂"]
)
def test_plain_text_is_left_alone(text):
    assert neutralised(text) == text


@given(PIECES.map("".join))
def test_twice_is_once(text):
    once = neutralised(text)
    assert neutralised(once) == once


@given(PIECES.map("".join), PIECES.map("".join))
def test_each_mark_stands_once(request, response):
    for block in delimited(request, response):
        first, last = block.split("\n")[0], block.split("\n")[-1]
        assert last == first.replace("[", "[end of ", 1)
        assert block.count(first) == block.count(last) == 1
        assert not re.search(r"<\|im_start\|>|\[INST\]|</s>", block)


def test_the_marks_depend_on_the_texts_alone():
    assert delimited("a", "b") == delimited("a", "b")
    marks = {delimited(*texts)[0].split("\n")[0] for texts in (("a", "bc"), ("ab", "c"), ("a", "b"), ("", "abc"))}
    assert len(marks) == 4


def test_half_a_character_is_text():
    assert "\ud800" in delimited("\ud800", "x")[0]


def test_a_long_text_takes_linear_time():
    text = "<|" * 300_000 + "[end of " * 100_000
    assert neutralised(text) == text
