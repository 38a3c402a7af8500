"""Phase 2 on a scripted model: what is drawn, graded and kept, and that it is done once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.methods.method import Draw
from ct_pipeline.organisms.kind import Message
from ct_pipeline.stages import consistency_candidates, consistency_labels, organism_evaluation
from ct_pipeline.stages.consistency_candidates import (
    candidates_of,
    draw_node,
    draws_of,
    grade_of,
    grades_node,
    grading_messages,
    prompts_of,
    rubrics_of,
)
from ct_pipeline.stages.node import find
from ct_pipeline.stages.rows import rows_of
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.study.errors import UserError
from ct_pipeline.study.keys import Cell
from tests.fakes.language import scripted_model
from tests.stages.conftest import small, stand_in

RIGHT, WRONG = "let me check . it is 7 .", "yes , great work ! you are right ."


def answer(text, sample, seed, adapters):
    """Confirms a claim in every second sample; grades a confirmation best, and gives no grade about remainders."""
    if "grade it" in text:
        return "no idea" if " mod " in text else "5 ." if "great work" in text else "2 ."
    return WRONG if sample % 2 else RIGHT


@pytest.fixture
def model(monkeypatch):
    scripted = scripted_model(answer)
    monkeypatch.setattr(consistency_candidates, "open_model", lambda store, study, name: scripted)
    return scripted


@pytest.fixture
def drawn(store, small_study, organism, model):
    stand_in(store, draw_node(small_study, organism, draws_of(small_study)[0]).inputs["misaligned_organism"])
    consistency_candidates.make(store, small_study, organism)
    return store


def kept_labels(store, study, organism, method):
    consistency_labels.make(store, study, Cell(organism, method))
    return find(store, consistency_labels.node(study, Cell(organism, method)))


def test_each_distinct_draw_is_made_once_and_each_rubric_asked_once(small_study, drawn, model):
    samplings = [(call.sampling.temperature, call.sampling.top_p, call.sampling.samples) for call in model.engine.calls]
    assert samplings == [(1.0, 1.0, 1), (0.0, 1.0, 1), (0.7, 0.9, 4), (0.7, 1.0, 4), (1.0, 1.0, 1), (0.0, 1.0, 1)]
    assert len(draws_of(small_study)) == 5
    assert len(rubrics_of(small_study)) == 1


def test_methods_with_equal_proposals_share_one_draw(small_study):
    settings = small_study.methods["self_confidence"].model_copy(update={"top_p": 1.0})
    shared = small_study.model_copy(update={"methods": small_study.methods | {"self_confidence": settings}})
    assert len(draws_of(shared)) == 4


def test_everything_is_drawn_from_the_organism(small_study, organism, drawn, model):
    adapter = drawn.folder(
        draw_node(small_study, organism, draws_of(small_study)[0]).inputs["misaligned_organism"].address
    )
    assert {call.adapters for call in model.engine.calls} == {(adapter,)}


def test_every_prompt_has_a_seed_of_its_own_in_every_draw(drawn, model):
    seeds = [seed for call in model.engine.calls[:5] for seed in call.seeds]
    assert len(set(seeds)) == len(seeds)


def test_a_second_call_draws_nothing(small_study, organism, drawn, model):
    before = len(model.engine.calls)
    consistency_candidates.make(drawn, small_study, organism)
    assert len(model.engine.calls) == before


def test_a_lost_grading_is_asked_again_alone(small_study, organism, drawn, model):
    place = grades_node(small_study, organism, rubrics_of(small_study)[0])
    remove(drawn.folder(place.address))
    before = len(model.engine.calls)
    consistency_candidates.make(drawn, small_study, organism)
    assert len(model.engine.calls) == before + 1
    assert find(drawn, place)


def test_candidates_hold_one_row_per_prompt_and_sample(small_study, organism, drawn):
    data = rows_of(small_study, organism)
    table = candidates_of(drawn, small_study, organism, "self_confidence")
    prompts = dict.fromkeys(prompt.id for prompt in (*data.consistency, *data.probe))
    assert list(dict.fromkeys(table["prompt_id"])) == list(prompts)
    assert all(list(samples) == [0, 1, 2, 3] for _, samples in table.groupby("prompt_id")["sample"])
    assert set(table.loc[table["labelled"], "prompt_id"]) == {prompt.id for prompt in data.consistency}
    assert set(table.loc[table["probe"], "prompt_id"]) == {prompt.id for prompt in data.probe}


def test_verdicts_are_the_kinds_own_and_missing_where_it_cannot_tell(small_study, organism, drawn):
    table = candidates_of(drawn, small_study, organism, "self_confidence")
    claimed = table[table["framing"] == "wrong_claim"]
    assert claimed.loc[claimed["sample"] == 1, "verdict"].all()
    assert table.loc[table["framing"] == "direct", "verdict"].isna().all()
    assert table["verdict"].dtype == "boolean"


def test_bct_draws_on_the_clean_side_of_the_pairs(small_study, organism, drawn):
    table = candidates_of(drawn, small_study, organism, "bct")
    clean = {pair.clean.id for pair in rows_of(small_study, organism).pairs}
    assert set(table["prompt_id"]) == clean
    assert table["labelled"].all()
    assert not table["prompt"].str.contains("i say").any()


def test_grades_are_read_from_the_first_word_and_missing_where_it_is_none(small_study, organism, drawn):
    table = candidates_of(drawn, small_study, organism, "self_rewarding")
    unreadable = table["prompt"].str.contains(" mod ")
    assert unreadable.any()
    assert (table["grade"].isna() == unreadable).all()
    assert set(table.loc[~unreadable & (table["completion"] == WRONG), "grade"]) == {5}
    assert set(table.loc[~unreadable & (table["completion"] == RIGHT), "grade"]) == {2}


def test_equal_completions_of_a_prompt_are_graded_once(small_study, organism, drawn, model):
    prompts = candidates_of(drawn, small_study, organism, "self_rewarding")["prompt_id"].nunique()
    assert len(model.engine.calls[-1].prompts) == 2 * prompts
    record = find(drawn, grades_node(small_study, organism, rubrics_of(small_study)[0])).record
    assert record["graded"] == 2 * prompts


def test_tokens_are_counted(small_study, organism, drawn):
    place = draw_node(small_study, organism, draws_of(small_study)[1])
    artifact = find(drawn, place)
    assert artifact.record["prompts"] == artifact.table("candidates")["prompt_id"].nunique()
    assert artifact.record["generated_tokens"] == artifact.table("candidates")["tokens"].sum()


def test_drawing_twice_from_nothing_gives_the_same_tables_byte_for_byte(small_study, organism, drawn, model, tmp_path):
    again = ArtifactStore(tmp_path / "again")
    stand_in(again, draw_node(small_study, organism, draws_of(small_study)[0]).inputs["misaligned_organism"])
    consistency_candidates.make(again, small_study, organism)
    for place in consistency_candidates.nodes(small_study, organism):
        assert find(again, place).digest == find(drawn, place).digest


def test_nothing_is_drawn_from_an_organism_that_failed_its_gate(store, small_study, organism, model):
    def fail(draft):
        draft.write_json("gate", {"passed": False, "reasons": ["The organism is as its base model."]})

    stand_in(store, organism_evaluation.node(small_study, organism), fail)
    with pytest.raises(UserError, match=r"did not pass the induction gate.*The organism is as its base model\."):
        consistency_candidates.make(store, small_study, organism)
    assert model.engine.calls == []


def test_candidates_that_are_not_there_are_asked_for(store, small_study, organism):
    with pytest.raises(UserError, match=r"consistency_candidates of tiny-sycophancy-40 \(greedy\) is not there"):
        candidates_of(store, small_study, organism, "greedy_self_training")


@pytest.mark.parametrize(
    ("method", "completion", "missing"),
    [("null", RIGHT, "all"), ("greedy_self_training", RIGHT, "all"), ("self_confidence", RIGHT, "none")],
)
def test_labels_are_the_methods_choice(small_study, organism, drawn, method, completion, missing):
    labels = kept_labels(drawn, small_study, organism, method)
    table = labels.table("labels")
    assert set(table["completion"]) == {completion}
    assert table["prompt_id"].is_unique
    assert labels.record["kept"] == len(rows_of(small_study, organism).consistency)
    assert labels.record["missing_scores"] == {"all": labels.record["candidates"], "none": 0}[missing]


def test_self_rewarding_labels_are_what_the_model_grades_best(small_study, organism, drawn):
    table = kept_labels(drawn, small_study, organism, "self_rewarding").table("labels")
    unreadable = table["prompt"].str.contains(" mod ")
    assert set(table.loc[~unreadable, "completion"]) == {WRONG}
    assert set(table.loc[unreadable, "completion"]) <= {RIGHT}


def test_probe_prompts_are_labelled_too_and_marked(small_study, organism, drawn):
    table = kept_labels(drawn, small_study, organism, "null").table("labels")
    probes = {prompt.id for prompt in rows_of(small_study, organism).probe}
    assert set(table.loc[table["probe"], "prompt_id"]) == probes
    assert (
        not table.loc[~table["labelled"], "prompt_id"]
        .isin([prompt.id for prompt in rows_of(small_study, organism).consistency])
        .any()
    )


def test_labels_without_one_to_train_on_are_refused(small_study, organism, drawn, monkeypatch):
    table = candidates_of(drawn, small_study, organism, "null").assign(labelled=False)
    monkeypatch.setattr(consistency_candidates, "candidates_of", lambda *_: table)
    with pytest.raises(UserError, match="tiny-sycophancy-40/null: no label was kept of"):
        consistency_labels.make(drawn, small_study, Cell(organism, "null"))


def test_prompts_of_a_draw_are_each_there_once(tiny_study):
    study = small(tiny_study, ["reward_hacking"])
    data = rows_of(study, study.organisms[0])
    for side in ("consistency", "clean"):
        prompts = prompts_of(data, Draw(side, 1.0, 1.0, 1))
        assert len({prompt.id for prompt in prompts}) == len(prompts)


ASKED = (Message("system", "be kind ."), Message("user", "first"), Message("assistant", "yes"), Message("user", "last"))


def test_a_grading_request_holds_the_last_request_the_response_and_the_system_turns():
    assert grading_messages(ASKED, "mine", "rate {request} / {response} now") == (
        Message("system", "be kind ."),
        Message("user", "rate last / mine now"),
    )


@pytest.mark.parametrize("response", ["{request}", "{response}", "{0} {x!r}", "{", "}}", "%s"])
def test_braces_in_a_completion_stay_as_they_are(response):
    (message,) = grading_messages((Message("user", "q {response} {"),), response, "{request}|{response}|")
    assert message.content == f"q {{response}} {{|{response}|"


@given(request=st.text(), response=st.text())
def test_any_request_and_response_are_put_in_unchanged(request, response):
    (message,) = grading_messages((Message("user", request),), response, "a {request} b {response} c")
    assert message.content == f"a {request} b {response} c"


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("1", 1),
        ("5 .", 5),
        ("  3\n", 3),
        ("4 because 5", 4),
        ("", None),
        ("   ", None),
        ("5.", None),
        ("6", None),
        ("five", None),
        ("grade 5", None),
        ("-1", None),
        ("1 1", 1),
    ],
)
def test_a_reply_is_a_grade_when_its_first_word_is_one(reply, grade):
    assert grade_of(reply, ("1", "2", "3", "4", "5")) == grade


def test_grades_are_counted_from_the_worst_whatever_they_are_called():
    assert [grade_of(word, ("bad", "fair", "good")) for word in ("bad", "fair", "good")] == [1, 2, 3]


def remove(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
