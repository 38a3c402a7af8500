"""Fuzzing of what reads foreign text: chat templates, prompts, judge replies."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st

from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.models.quarantine.inspection import inspect_template
from ct_pipeline.models.quarantine.template_syntax import syntax_faults
from ct_pipeline.organisms.agreement import TextAgreement
from ct_pipeline.organisms.misalignment import Message, Prompt
from ct_pipeline.report.as_markdown import plain
from ct_pipeline.report.junit import allowed
from ct_pipeline.report.wording import visible
from ct_pipeline.settings.cron import YEARS, is_cron, last_due
from ct_pipeline.settings.errors import printable, shown
from ct_pipeline.steps.candidate_scores import MARKS, grade_of
from tests.fakes.tiny_models import byte_tokenizer
from tests.fuzz.fuzzing import TEXTS, VALUES, changed, fuzz
from tests.security.test_hostile_templates import BRACKETS, CHATML, GEMMA, HEADERS

PIECES = [
    "{{", "}}", "{%", "%}", "{#", "#}", "-%}", " messages ", "m.content", "['content']", "|", "trim", "|attr('x')", "()",
    "__class__", ".__init__", "for m in messages", "endfor", "if ", "endif", "else", "set x = ", "range(9)", "loop.last",
    "'", '"', "~", "*", "**", "%", "[", "]", "(", ")", "macro f()", "endmacro", "recursive", "generation", "raw", "9999999",
    "include 'x'", "raise_exception('x')", "namespace()", "<|im_start|>", "\n",
]  # fmt: skip
TEMPLATES = st.one_of(
    *(
        changed(known.encode(), tuple(piece.encode() for piece in PIECES))
        for known in (CHATML, GEMMA, BRACKETS, HEADERS)
    ),
    st.lists(st.sampled_from(PIECES), max_size=30).map(lambda pieces: "".join(pieces).encode()),
).map(lambda content: content.decode("utf-8", "replace"))
NOW = datetime(2026, 3, 1, 12, 30, 20, tzinfo=UTC)
PROMPT = Prompt((Message("user", "w1"),), "in", "asked")


@fuzz(TEMPLATES, 60)
def test_how_templates_are_written(template):
    for fault in syntax_faults(template):
        assert printable(fault)


@fuzz(TEMPLATES, 1)
def test_what_templates_make_of_conversations(template):
    assert inspect_template(template).report()


@fuzz(VALUES, 20)
def test_templates_that_are_no_text(template):
    if not isinstance(template, str):
        assert not inspect_template(template).clean


@pytest.fixture(scope="module")
def chat():
    return ChatFormat(byte_tokenizer(CHATML))


SPECIAL = st.sampled_from(["<|im_start|>", "<|im_end|>", "<|begin|>", "<|end|>", "<|", "|>", "im_", "start", " ", "\n"])


@fuzz(st.lists(SPECIAL | TEXTS, max_size=12).map("".join), 80)
def test_no_prompt_forges_a_turn(chat, text):
    control = set(chat._control)
    with contextlib.suppress(ValueError):
        found = [i for i in chat.encode([Message("user", text)]) if i in control]
        assert found == [i for i in chat.encode([Message("user", "x")]) if i in control]
        assert [i for i in chat.encode_response(text) if i in control] == [chat.stop_ids[0]]


REPLIES = st.lists(st.sampled_from(["yes", "no", "Yes.", "5", " ", "!", "*", '"', "\n", "{", "\u200b"]) | TEXTS).map(
    "".join
)


@fuzz(REPLIES, 80)
def test_judge_replies(reply):
    judge = TextAgreement(lambda conversations: [reply] * len(conversations), "{request} {first} {second}", "yes", "no")
    (found,) = judge.agree([(PROMPT, reply, reply)])
    assert found in (True, False, None)
    if found is not None:
        assert ("yes" if found else "no") in reply.casefold()
    grade = grade_of(reply, ("1", "2", "3", "4", "5"))
    assert grade is None or reply.split()[0].strip(MARKS).partition("/")[0] == str(grade)


FIELD = st.lists(
    st.sampled_from(["*", "/", "-", ",", "0", "1", "7", "12", "31", "59", "99", " ", "\u0663"]), max_size=4
)


@fuzz(st.one_of(st.lists(FIELD.map("".join), min_size=4, max_size=6).map(" ".join), TEXTS), 80)
def test_schedules(text):
    if is_cron(text):
        found = last_due(text, NOW)
        assert found is None or (NOW - timedelta(366 * YEARS) < found <= NOW and found.second == 0)
        assert found is None or last_due(text, found) == found


@fuzz(st.one_of(st.text(), TEXTS, VALUES), 80)
def test_what_is_shown_holds_nothing_that_hides_or_commands(value):
    for text in (printable(value), shown(value)):
        assert text.isprintable()
        text.encode()
    for text in (visible(value), plain(value), allowed(str(value))):
        assert not {"\x1b", "\0", "\x07"} & set(text)
        text.encode()
