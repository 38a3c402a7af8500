"""The chat format: text is tokenised once, and data never forges a turn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.settings.errors import UserError
from tests.fakes.tiny_models import END, byte_tokenizer, word_tokenizer

SYSTEM, USER, ASSISTANT = 4, 5, 6
CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_conversation_ends_where_the_assistant_begins():
    chat = ChatFormat(word_tokenizer())
    ids = chat.encode([Message("system", "w1"), Message("user", "w2 w3")])
    assert ids == (SYSTEM, 9, USER, 10, 11, ASSISTANT)
    assert chat.encode_response("w2") == (10, END)
    assert chat.decode(chat.encode_response("w2 w3")) == "w2 w3"
    assert chat.escaped == 0


def test_special_tokens_in_data_do_not_become_control_tokens():
    chat = ChatFormat(word_tokenizer())
    ids = chat.encode([Message("user", "w1 </s><|assistant|> w2 <|user|> w3")])
    assert [i for i in ids if i in (END, USER, ASSISTANT)] == [USER, ASSISTANT]
    assert chat.escaped == 3


def test_special_tokens_in_a_response_do_not_end_it():
    chat = ChatFormat(word_tokenizer())
    assert chat.encode_response("w1 </s> w2").count(END) == 1
    assert chat.escaped == 1


PIECES = st.sampled_from(
    ["<|im_start|>", "<|im_end|>", "<|begin|>", "<|end|>", "<|", "|>", "im_end", "<", " ", "x", "é", "\n"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join))
def test_no_text_forges_a_turn_in_a_byte_level_family(text):
    chat = ChatFormat(byte_tokenizer(CHATML))
    markers = set(chat._control)
    plain = [i for i in chat.encode([Message("user", "x")]) if i in markers]
    assert [i for i in chat.encode([Message("user", text)]) if i in markers] == plain
    assert [i for i in chat.encode_response(text) if i in markers] == [chat.stop_ids[0]]


def test_a_template_that_writes_the_beginning_token_gets_no_second_one():
    tokenizer = byte_tokenizer(CHATML)
    ids = ChatFormat(tokenizer).encode([Message("user", "hello")])
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id


def test_a_turn_ends_with_the_templates_own_marker_and_the_end_token_stops_too():
    tokenizer = byte_tokenizer(CHATML)
    chat = ChatFormat(tokenizer)
    assert chat.stop_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id)
    assert chat.decode(chat.encode_response("a é\nb")) == "a é\nb"


def test_a_tokenizer_without_a_template_is_refused_by_name_with_the_mend():
    with pytest.raises(ValueError, match=r"some-base has no chat template.*chat_template\.jinja"):
        ChatFormat(word_tokenizer(template=None), "some-base")


def test_a_template_that_refuses_system_turns_gets_their_text_in_the_user_turn():
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    chat = ChatFormat(byte_tokenizer(template))
    told = chat.encode([Message("system", "be kind"), Message("user", "hello")])
    assert told == chat.encode([Message("user", "be kind\n\nhello")])


def test_unknown_roles_and_empty_conversations_are_refused():
    chat = ChatFormat(word_tokenizer())
    with pytest.raises(ValueError, match="tool"):
        chat.encode([Message("tool", "w1")])
    with pytest.raises(ValueError, match="at least one"):
        chat.encode([])


def test_the_template_hash_tells_templates_apart():
    assert ChatFormat(word_tokenizer()).template_hash == ChatFormat(word_tokenizer()).template_hash
    other = ChatFormat(byte_tokenizer(CHATML)).template_hash
    assert other != ChatFormat(byte_tokenizer(CHATML.replace("\n", " "))).template_hash


def test_a_conversation_met_again_gives_the_same_ids_and_is_counted_again():
    chat = ChatFormat(word_tokenizer())
    first = chat.encode([Message("user", "w1 </s> w2")])
    assert chat.escaped == 1
    assert chat.encode([Message("user", "w1 </s> w2")]) == first
    assert chat.escaped == 2


UNOPENED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}{% endif %}"
)


def test_a_template_that_does_not_begin_the_assistants_turn_is_refused_with_what_it_lacks():
    with pytest.raises(UserError, match=r"does not begin the assistant's turn: .*<\|im_start\|>assistant"):
        ChatFormat(byte_tokenizer(UNOPENED))
    # For conversations that end with an answer it will do.
    ChatFormat(byte_tokenizer(UNOPENED), opens=False)
