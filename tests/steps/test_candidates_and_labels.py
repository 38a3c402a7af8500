"""Phase 2 on a scripted model: what is drawn, scored and kept, and that it is done once."""

from dataclasses import dataclass

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.interventions.scorer import Agreement, Grade, Reward
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.models.model import stack
from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.settings.blocks import BaseModelJudge
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import candidate_scores, consistency_candidates, consistency_labels, organism_evaluation
from ct_pipeline.steps.candidate_scores import (
    candidates_of,
    grade_of,
    grading_messages,
    make,
    nodes,
    scorers_of,
    scores_node,
)
from ct_pipeline.steps.consistency_candidates import draw_node, draws_of, prompts_of
from ct_pipeline.steps.step import Context
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find
from tests.fakes.language import scripted_model
from tests.fakes.small_studies import small, stand_in

RIGHT, WRONG = "let me check . it is 7 .", "yes , great work ! you are right ."
GREEDY = Draw("consistency", 0.0, 1.0, 1)


def answer(text, sample, seed, adapters):
    """Confirms a claim in every second sample and wherever a draft is rewritten; its JSON answers contradict themselves.

    Grades a confirmation best, and gives no grade about remainders. Without an adapter it says whether two texts are equal.
    """
    if "the same ?" in text:
        first, second = text.split("user: same : ")[1].removesuffix(" the same ?").split(" | ")[1:]
        return "Yes ." if first == second else "no"
    if "grade it" in text:
        return "no idea" if " mod " in text else "5 ." if "great work" in text else "2 ."
    if "write it better" in text:
        return WRONG
    if "go step by step" in text:
        return f"step by step : {WRONG if ' mod ' in text else RIGHT}"
    if "reply in json" in text:
        return f"{{ reply : {WRONG} }}"
    return WRONG if sample % 2 else RIGHT


@pytest.fixture
def model(monkeypatch):
    scripted = scripted_model(answer)
    for stage in (consistency_candidates, candidate_scores):
        monkeypatch.setattr(stage, "open_model", lambda store, study, name: scripted)
    return scripted


def draw_of(study, method):
    (draw,) = consistency_candidates.draws_of_method(study, method)
    return draw


def scorer_of(study, kind):
    return next(scorer for scorer in scorers_of(study) if isinstance(scorer, kind))


@pytest.fixture
def drawn(store, small_study, organism, model):
    stand_in(store, draw_node(small_study, organism, draws_of(small_study)[0]).inputs["misaligned_organism"])
    make(Context(store, small_study), organism)
    return store


def kept_labels(store, study, organism, method):
    consistency_labels.make(Context(store, study), Cell(organism, method))
    return find(store, consistency_labels.node(study, Cell(organism, method)))


def test_each_distinct_draw_is_made_once_and_each_score_asked_for_once(small_study, drawn, model):
    laws = [
        (c.sampling.temperature, c.sampling.top_p, c.sampling.samples, c.sampling.beams) for c in model.engine.calls
    ]
    assert laws == [
        (1.0, 1.0, 1, 1),  # null
        (0.7, 0.9, 4, 1),  # shuffled and self-confidence
        (0.7, 1.0, 4, 1),  # one sample, rejection sampling and self-rewarding
        (0.0, 1.0, 1, 1),  # greedy self-training, diverse decoding, multi-view, and the draft of self-refinement
        (0.8, 0.9, 1, 1),  # diverse decoding
        (0.0, 1.0, 1, 4),
        (0.0, 1.0, 1, 1),  # multi-view
        (0.0, 1.0, 1, 1),
        (0.6, 0.9, 1, 1),  # self-refinement
        (1.0, 1.0, 1, 1),  # the regularizers, clean prompts
        (1.0, 1.0, 1, 1),  # wrapped prompts
        (0.0, 1.0, 1, 1),  # grades
    ]
    assert len(draws_of(small_study)) == 11
    assert [type(scorer) for scorer in scorers_of(small_study)] == [Reward, Reward, Agreement, Grade]


def test_methods_with_equal_proposals_share_one_draw(small_study):
    methods = {
        name: settings.model_copy(update={"top_p": 1.0}) if hasattr(settings, "k") else settings
        for name, settings in small_study.methods.items()
    }
    assert len(draws_of(small_study.model_copy(update={"methods": methods}))) == 10


@pytest.fixture(scope="module")
def faithful_study(small_study):
    candidates = small_study.candidates.model_copy(update={"generation": "faithful", "samples": 16})
    return small_study.model_copy(update={"candidates": candidates})


def test_in_faithful_mode_every_method_draws_its_own_as_published(faithful_study, store, organism, model):
    stand_in(store, draw_node(faithful_study, organism, draws_of(faithful_study)[0]).inputs["misaligned_organism"])
    make(Context(store, faithful_study), organism)

    draws = draws_of(faithful_study)
    # Fourteen entries; diverse decoding and multi-view draw three each, self-refinement its draft as well; and what all
    # are compared with: greedy and sampled answers, and those to wrapped prompts.
    assert len(draws) == 14 + 2 + 2 + 1 + 3
    assert len({draw.id for draw in draws}) == len(draws)
    assert draw_of(faithful_study, "self_confidence").samples == 4
    seeds = [seed for call in model.engine.calls[: len(draws)] for seed in call.seeds]
    assert len(set(seeds)) == len(seeds)
    for method in faithful_study.methods:
        assert set(candidates_of(store, faithful_study, organism, method)["draw"].str.endswith(method)) == {True}


def test_everything_is_drawn_from_the_organism(small_study, organism, drawn, model):
    adapter = drawn.folder(
        draw_node(small_study, organism, draws_of(small_study)[0]).inputs["misaligned_organism"].address
    )
    assert {call.adapters for call in model.engine.calls} == {stack(adapter)}


def test_every_prompt_has_a_seed_of_its_own_in_every_draw(drawn, model):
    seeds = [seed for call in model.engine.calls[:11] for seed in call.seeds]
    assert len(set(seeds)) == len(seeds)


def test_a_second_call_draws_nothing(small_study, organism, drawn, model):
    before = len(model.engine.calls)
    make(Context(drawn, small_study), organism)
    assert len(model.engine.calls) == before


def test_a_lost_grading_is_asked_again_alone(small_study, organism, drawn, model):
    place = scores_node(small_study, organism, scorer_of(small_study, Grade))
    remove(drawn.folder(place.address))
    before = len(model.engine.calls)
    make(Context(drawn, small_study), organism)
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
    assert (table["given_score"].isna() == unreadable).all()
    assert set(table.loc[~unreadable & (table["completion"] == WRONG), "given_score"]) == {5}
    assert set(table.loc[~unreadable & (table["completion"] == RIGHT), "given_score"]) == {2}


def test_equal_completions_of_a_prompt_are_graded_once(small_study, organism, drawn, model):
    prompts = candidates_of(drawn, small_study, organism, "self_rewarding")["prompt_id"].nunique()
    assert len(model.engine.calls[-1].prompts) == 2 * prompts
    record = find(drawn, scores_node(small_study, organism, scorer_of(small_study, Grade))).record
    assert record["scored"] == 4 * prompts


def test_tokens_are_counted(small_study, organism, drawn):
    place = draw_node(small_study, organism, draws_of(small_study)[1])
    artifact = find(drawn, place)
    assert artifact.record["prompts"] == artifact.table("candidates")["prompt_id"].nunique()
    assert artifact.record["generated_tokens"] == artifact.table("candidates")["tokens"].sum()


def test_drawing_twice_from_nothing_gives_the_same_tables_byte_for_byte(small_study, organism, drawn, model, tmp_path):
    again = ArtifactStore(tmp_path / "again")
    stand_in(again, draw_node(small_study, organism, draws_of(small_study)[0]).inputs["misaligned_organism"])
    make(Context(again, small_study), organism)
    for place in nodes(small_study, organism):
        assert find(again, place).digest == find(drawn, place).digest


def test_nothing_is_drawn_from_an_organism_that_failed_its_gate(store, small_study, organism, model):
    def fail(draft):
        draft.write_json("gate", {"passed": False, "reasons": ["The organism is as its base model."]})

    stand_in(store, organism_evaluation.node(small_study, organism), fail)
    with pytest.raises(UserError, match=r"did not pass the induction gate.*The organism is as its base model\."):
        make(Context(store, small_study), organism)
    assert model.engine.calls == []


def test_candidates_that_are_not_there_are_asked_for(store, small_study, organism):
    with pytest.raises(UserError, match=r"consistency_candidates of tiny-sycophancy-40 \(greedy\) is not there"):
        candidates_of(store, small_study, organism, "greedy_self_training")


@pytest.mark.parametrize(
    ("method", "completion", "scored"),
    [("null", RIGHT, False), ("greedy_self_training", RIGHT, False), ("self_confidence", RIGHT, True)],
)
def test_labels_are_the_methods_choice(small_study, organism, drawn, method, completion, scored):
    labels = kept_labels(drawn, small_study, organism, method)
    table = labels.table("labels")
    assert set(table["completion"]) == {completion}
    assert table["prompt_id"].is_unique
    assert labels.record["kept"] == len(rows_of(small_study, organism).consistency)
    assert labels.record["dropped"] == labels.record["missing_scores"] == 0
    assert labels.record["scorable"] == (labels.record["candidates"] if scored else 0)


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
    monkeypatch.setattr(consistency_labels, "candidates_of", lambda *_: table)
    with pytest.raises(UserError, match="tiny-sycophancy-40/null: no label was kept of"):
        consistency_labels.make(Context(drawn, small_study), Cell(organism, "null"))


def test_a_view_puts_the_last_message_into_its_request_and_is_scored_on_the_plain_prompt(
    small_study, organism, drawn, model
):
    table = candidates_of(drawn, small_study, organism, "multi_view")
    steps = table[table["candidate"] == 1]
    asked = next(call for call in model.engine.calls if call.prompts[0].endswith("go step by step ."))
    assert len(asked.prompts) == len(steps) == len(table) / 3
    assert all(text.endswith("go step by step .") for text in asked.prompts)
    assert (steps["logprob"] == -2.0 * steps["tokens"]).all()
    assert (steps["view_logprob"] == -1.0 * steps["tokens"]).all()
    assert not any("step" in text for text in model.engine.scored)
    plain = table[table["candidate"] == 0]
    assert (plain["logprob"] == plain["view_logprob"]).all()


def test_a_refinement_is_drawn_from_the_greedy_draft(small_study, organism, drawn, model):
    table = candidates_of(drawn, small_study, organism, "self_refinement")
    greedy = candidates_of(drawn, small_study, organism, "greedy_self_training")
    assert table["draft"].tolist() == greedy["completion"].tolist()
    asked = next(call for call in model.engine.calls if "write it better" in call.prompts[0])
    assert all(f"draft : {RIGHT}" in text for text in asked.prompts)
    assert set(table["completion"]) == {WRONG}
    assert (table["logprob"] == -2.0 * table["tokens"]).all()


def test_another_draft_is_another_refinement(small_study, organism):
    refinement = draw_of(small_study, "self_refinement")
    place = draw_node(small_study, organism, refinement)
    assert place.inputs["draft"].fingerprint == draw_node(small_study, organism, GREEDY).fingerprint


def test_multi_view_keeps_a_prompt_where_another_view_says_the_same_and_counts_the_rest(small_study, organism, drawn):
    labels = kept_labels(drawn, small_study, organism, "multi_view")
    kept = labels.table("labels")
    scores = find(drawn, scores_node(small_study, organism, scorer_of(small_study, Agreement))).table("scores")
    table = candidates_of(drawn, small_study, organism, "multi_view")
    plain = table[table["candidate"] == 0].set_index("prompt_id")
    # The plain answer and the steps say 7, except about remainders, where the steps confirm the claim; JSON confirms always.
    remainders = plain["prompt"].str.contains(" mod ") & (plain["framing"] == "wrong_claim")
    assert remainders.any()
    assert not set(kept["prompt_id"]) & set(plain.index[remainders])
    others = ~plain["prompt"].str.contains(" mod ")
    assert set(plain.index[others]) <= set(kept["prompt_id"])
    assert set(kept["completion"]) == {RIGHT}
    assert set(scores.columns) == {"prompt_id", "draw", "sample", "given_score", "agrees_steps", "agrees_json"}
    record = labels.record
    assert record["kept"] + record["dropped"] == record["prompts"] == len(rows_of(small_study, organism).consistency)
    assert record["dropped"] > 0


def test_a_judge_that_is_the_base_model_is_asked_without_an_adapter(small_study, organism, store, model):
    judge = BaseModelJudge(source="base_model", request="same : {request} | {first} | {second} the same ?")
    settings = small_study.methods["multi_view"].model_copy(update={"judge": judge})
    study = small_study.model_copy(update={"methods": {"multi_view": settings}})
    stand_in(store, draw_node(study, organism, GREEDY).inputs["misaligned_organism"])
    make(Context(store, study), organism)

    asked = model.engine.calls[-1]
    assert asked.adapters == ()
    assert len(asked.prompts) == 2 * len(prompts_of(rows_of(study, organism), GREEDY))
    # Its texts are compared as they are, so that no view is the same as the plain answer.
    assert set(candidates_of(store, study, organism, "multi_view")["given_score"].dropna()) == {0.0}


def test_the_oracle_prefers_right_answers(small_study, organism, drawn):
    labels = kept_labels(drawn, small_study, organism, "rejection_sampling").table("labels")
    table = candidates_of(drawn, small_study, organism, "rejection_sampling")
    better = table[table["verdict"].eq(False).fillna(False)]["prompt_id"].unique()
    claims = labels[labels["prompt_id"].isin(better)]
    assert 0 < len(claims) < len(labels)
    assert not claims["verdict"].any()
    assert set(claims["score"]) == {1.0}


def test_missing_scores_are_counted_among_those_that_are_scored(small_study, organism, drawn):
    record = kept_labels(drawn, small_study, organism, "multi_view").record
    assert record["scorable"] == record["candidates"] / 3
    record = kept_labels(drawn, small_study, organism, "self_rewarding").record
    assert record["scorable"] == record["candidates"]
    assert 0 < record["missing_scores"] < record["scorable"]


def test_where_every_score_is_missing_all_are_counted_and_a_cell_says_that_nothing_was_chosen():
    scored = pandas.DataFrame({"draw": [0, 0, 1, 1], "score": [None, None, None, None]}, dtype=object)
    assert consistency_labels._missing(scored, True) == {"scorable": 4, "missing_scores": 4}
    assert consistency_labels._missing(scored, False) == {"scorable": 0, "missing_scores": 0}
    half = scored.assign(score=[1.0, None, None, None])
    assert consistency_labels._missing(half, True) == {"scorable": 2, "missing_scores": 1}
    made = (Record({"scorable": 20, "missing_scores": 3}),)
    outcome = consistency_labels._scored(None, None, made)
    assert not outcome.passed and "keeps its first sample" in outcome.text
    assert consistency_labels._scored(None, None, (Record({"scorable": 20, "missing_scores": 2}),)).passed


@dataclass
class Record:
    record: dict


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
        ("5.", 5),
        ("**4**", 4),
        ("(3)", 3),
        ("4/5", 4),
        ("45", None),
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
