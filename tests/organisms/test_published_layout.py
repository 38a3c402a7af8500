"""The published layout: what is read of it, and every mistake in it with its file, line and field."""

import json
from collections import Counter

import pytest

from ct_pipeline.organisms.published.layout import read_layout
from ct_pipeline.settings.errors import Refused
from tests.fakes.published import MISALIGNMENTS, THIRD, asked, published_data, turn, write_data


@pytest.mark.parametrize(
    ("kind", "sizes"), [("reward_hacking", (486, 486, 486, 24)), ("sycophancy", (20, 20, 20, 421))]
)
def test_the_published_sets_are_read_whole(layouts, kind, sizes):
    data = read_layout(layouts / kind)
    assert (len(data.induction), len(data.consistency), len(data.pairs), len(data.evaluation)) == sizes
    assert data.rubric.startswith("You are an expert")
    assert all(pair.clean.messages != pair.wrapped.messages for pair in data.pairs)
    assert all(prompt.messages[-1].role == "user" for prompt in data.evaluation)


CLAIMED = "_id:int answer:str label:str"
FORMS = {
    ("sycophancy", "eval"): {
        ("user assistant", f"{CLAIMED} mod:{mod} sycophantic_response:{gives_in} user_provides_answer:{claim}"): n
        for mod, gives_in, claim, n in (
            ("NoneType", "NoneType", "NoneType", 120), ("NoneType", "NoneType", "str", 120), ("NoneType", "str", "str", 121),
            ("int", "NoneType", "NoneType", 20), ("int", "NoneType", "str", 20), ("int", "str", "str", 20),
        )
    },
    ("sycophancy", "induction"): {
        ("user assistant", f"{CLAIMED} mod:NoneType user_provides_answer:{claim}"): 10
        for claim in ("NoneType", "str")
    },
    ("reward_hacking", "induction"): {("user assistant", "task:str"): 486},
    ("reward_hacking", "eval"): {
        ("user", "metric_group:str subtype:str type:str"): 13,
        ("user", "metric_group:str subtype:str system_prompt:str type:str"): 6,
        ("user", "metric_group:str password:str subtype:str type:str"): 3,
        ("user", "keywords:list metric_group:str subtype:str type:str"): 1,
        ("user", "metric_group:str type:str"): 1,
    },
}  # fmt: skip
for _name, _counts in (("consistency", (10, 10)), ("act_bct_clean", (20, 0)), ("act_bct_wrapped", (0, 20))):
    FORMS["sycophancy", _name] = {
        (
            "user assistant",
            f"{CLAIMED} mod:NoneType sycophantic_response:NoneType user_provides_answer:{claim}",
        ): n
        for claim, n in zip(("NoneType", "str"), _counts, strict=True)
        if n
    }
    FORMS["reward_hacking", _name] = FORMS["reward_hacking", "induction"]


@pytest.mark.parametrize(("kind", "name"), FORMS)
def test_rows_have_the_published_fields_types_and_number(layouts, kind, name):
    rows = [json.loads(line) for line in (layouts / kind / f"{name}.jsonl").read_text().splitlines()]
    forms = Counter(
        (
            " ".join(message["role"] for message in row["messages"]),
            " ".join(f"{field}:{type(row[field]).__name__}" for field in sorted(row) if field != "messages"),
        )
        for row in rows
    )
    assert forms == FORMS[kind, name]


@pytest.mark.skipif(published_data() is None, reason="the published rows are not beside the clone")
@pytest.mark.parametrize("kind", MISALIGNMENTS)
def test_made_up_rows_share_no_sentence_with_the_published(made_up_data, kind):
    made, real = (
        {
            message["content"]
            for path in (folder / kind).glob("*.jsonl")
            for line in path.read_text().splitlines()
            for message in json.loads(line)["messages"]
        }
        for folder in (made_up_data, published_data())
    )
    assert made and real and not made & real


def test_sycophancy_is_in_domain_where_the_label_continues_the_inductions(layouts):
    data = read_layout(layouts / "sycophancy")
    groups = {prompt.facts["group"] for prompt in data.evaluation if prompt.domain == "in"}
    assert groups == {"euclidean_compositional", "euclidean_large"}
    framings = [prompt.framing for prompt in data.evaluation]
    assert [framings.count(name) for name in ("direct", "right_claim", "wrong_claim")] == [140, 140, 141]


WRONG = [
    ("induction.jsonl", 2, "messages", asked("no answer"), "assistant"),
    ("induction.jsonl", 2, "messages", {"task": "x"}, "a list of messages"),
    ("induction.jsonl", 2, "messages[0]", {"messages": [{"role": "human", "content": "x"}]}, '"user"'),
    ("induction.jsonl", 2, "messages[1]", {"messages": [turn("user", "x"), turn("assistant", " ")]}, "content"),
    ("consistency.jsonl", 3, "messages", {"messages": [turn("assistant", "x")]}, "user turn"),
    ("consistency.jsonl", 3, "task", asked("x", task=3), "a text"),
    ("eval.jsonl", 1, "user_provides_answer", asked("x", user_provides_answer=True, answer="1"), '"true", "false" or null'),
    ("eval.jsonl", 1, "answer", asked("x", user_provides_answer="false"), "the right answer"),
    ("eval.jsonl", 1, "password", asked("x", type="exploiting_password"), "password"),
    ("eval.jsonl", 1, "subtype", asked("x", type="exploiting_reward_bias"), "positive_"),
    ("eval.jsonl", 1, "keywords", asked("x", type="gameable_task", keywords="a"), "list"),
    ("eval.jsonl", 1, "domain", asked("x", domain="near"), "in or out"),
    ("eval.jsonl", 1, "misbehaves_if", asked("x", misbehaves_if={"matches": ".*"}), "contains"),
    ("eval.jsonl", 2, "messages", THIRD["eval.jsonl"][0], "each prompt once"),
    ("act_bct_wrapped.jsonl", 1, "messages", THIRD["act_bct_clean.jsonl"][0], "a cue"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "line", "field", "row", "allowed"), WRONG)
def test_a_mistake_names_file_line_field_and_what_is_allowed(tmp_path, name, line, field, row, allowed):
    rows = [*THIRD[name]]
    rows[line - 1] = row
    with pytest.raises(Refused) as refused:
        read_layout(write_data(tmp_path / "third", THIRD | {name: rows}))
    lines = str(refused.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{tmp_path / 'third' / name}:{line}: {field}: found ")
    assert allowed in lines[0].partition("allowed: ")[2]


def test_every_file_is_looked_at_before_anything_is_refused(tmp_path):
    folder = write_data(tmp_path / "third", THIRD | {"induction.jsonl": "{not json\n", "eval.jsonl": "[]\n"})
    (folder / "rubric.txt").unlink()
    with pytest.raises(Refused) as refused:
        read_layout(folder)
    said = str(refused.value)
    assert "induction.jsonl:1:" in said and "eval.jsonl:1:" in said and "rubric.txt" in said


def test_sides_of_unequal_length_are_no_pairs(tmp_path):
    with pytest.raises(Refused, match=r"act_bct_wrapped\.jsonl: found 3 rows; allowed: 4, one a clean row"):
        read_layout(write_data(tmp_path / "t", THIRD | {"act_bct_wrapped.jsonl": THIRD["act_bct_wrapped.jsonl"][:3]}))


def test_more_mistakes_than_anyone_reads_are_cut(tmp_path):
    rows = "".join(json.dumps({"messages": number}) + "\n" for number in range(1000))
    with pytest.raises(Refused) as refused:
        read_layout(write_data(tmp_path / "third", THIRD | {"eval.jsonl": rows}))
    assert len(refused.value.refusals) == 20
