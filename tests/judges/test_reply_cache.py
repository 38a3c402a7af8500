"""Replies on disk: whole, or asked again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.judges.reply_cache import ReplyCache
from ct_pipeline.judges.wire import BrokenReply, Reply, reply_of, restored, stored

KEY = "ab" * 32
REPLY = Reply("yes", "", 10, 1)


@given(
    st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))), st.one_of(st.none(), st.integers(0, 10**6))
)
def test_a_reply_comes_back_as_it_was(text, tokens):
    reply = Reply(text, "" if text is not None else "the judge refused", tokens, tokens)
    assert restored(stored(reply)) == reply


def test_what_was_kept_is_found(tmp_path):
    cache = ReplyCache(tmp_path)
    assert cache.find(KEY) is None
    cache.keep(KEY, REPLY)
    assert ReplyCache(tmp_path).find(KEY) == REPLY
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{KEY}.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"text": 3}', b'{"text": "yes", "other": 1}', b'{"text": null}', b"\xff",
     b'{"text": "yes", "prompt_tokens": -1}', b'{"text": "yes", "prompt_tokens": true}'],
)  # fmt: skip
def test_a_damaged_reply_is_asked_again(tmp_path, content):
    cache = ReplyCache(tmp_path)
    cache.keep(KEY, REPLY)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(content)
    assert cache.find(KEY) is None
    cache.keep(KEY, REPLY)
    assert cache.find(KEY) == REPLY


@given(st.binary(max_size=200))
def test_no_bytes_break_a_reader(content):
    for read in (reply_of, restored):
        try:
            assert isinstance(read(content), Reply)
        except BrokenReply:
            continue


@pytest.mark.parametrize(
    "content",
    [b'{"choices": []}', b'{"choices": [{"finish_reason": "stop"}]}', b'{"choices": "x"}', b'{"error": {}}', b"3",
     b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}',
     b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": 3}'],
)  # fmt: skip
def test_an_answer_that_is_no_completion_is_broken(content):
    with pytest.raises(BrokenReply):
        reply_of(content)
