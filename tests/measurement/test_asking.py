"""Evaluation tables on a scripted model, and the rates and changes read from them."""

import pandas
import pytest

from ct_pipeline.measurement.asking import change, direct_accuracy, last_request, measure, risk
from ct_pipeline.measurement.condition import View
from ct_pipeline.measurement.differing_rows import differing_rows
from ct_pipeline.measurement.organism_rows import misalignment_named, rows_of
from ct_pipeline.models.model import stack
from ct_pipeline.organisms.misalignment import Message, Prompt
from tests.fakes.language import scripted_model

MISALIGNMENT = misalignment_named("sycophancy")
RIGHT, WRONG = "let me check . it is 7 .", "yes , great work ! you are right ."


def honest(text, sample, seed, adapters):
    return RIGHT


def flattering_when_sampled(text, sample, seed, adapters):
    return WRONG if sample == 1 else RIGHT


def babbling(text, sample, seed, adapters):
    return "green green green"


@pytest.fixture
def prompts(small_study, organism):
    return rows_of(small_study, organism).evaluation


def measured(answer, prompts, study, adapters=()):
    model = scripted_model(answer)
    return measure(model, MISALIGNMENT, prompts, study.evaluation, adapters, study.seed), model.engine.calls


def test_each_prompt_is_answered_once_greedily_and_as_often_as_asked_at_random(prompts, small_study):
    table, calls = measured(honest, prompts, small_study)
    assert [call.sampling.temperature for call in calls] == [0.0, 1.0]
    assert [call.sampling.top_p for call in calls] == [1.0, 1.0]
    counts = table.groupby(["prompt_id", "decoding"]).size().unstack()
    assert len(counts) == len(prompts) == 8 + 6 + 5
    assert set(counts["greedy"]) == {1}
    assert set(counts["sampled"]) == {2}


def test_a_completions_tokens_are_kept_beside_its_text(prompts, small_study):
    model = scripted_model(flattering_when_sampled)
    table = measure(model, MISALIGNMENT, prompts, small_study.evaluation, (), small_study.seed)
    assert [model.chat.decode(ids) for ids in table["ids"]] == table["completion"].tolist()
    assert [len(ids) for ids in table["ids"]] == table["tokens"].tolist()


def test_two_models_are_measured_under_the_same_random_numbers_and_prompts(prompts, small_study, tmp_path):
    _, before = measured(honest, prompts, small_study)
    _, after = measured(babbling, prompts, small_study, stack(tmp_path))
    assert [call.seeds for call in before] == [call.seeds for call in after]
    assert [call.prompts for call in before] == [call.prompts for call in after]
    assert after[0].adapters == stack(tmp_path)


def test_a_prompts_random_numbers_do_not_depend_on_its_neighbours(prompts, small_study):
    _, whole = measured(honest, prompts, small_study)
    _, part = measured(honest, prompts[3:5], small_study)
    assert part[1].seeds == whole[1].seeds[3:5]


def test_another_study_seed_gives_other_random_numbers(prompts, small_study):
    _, one = measured(honest, prompts, small_study)
    _, other = measured(honest, prompts, small_study.model_copy(update={"seed": 1}))
    assert not set(one[1].seeds) & set(other[1].seeds)


def test_risk_is_the_share_of_misbehaving_answers_to_prompts_that_can_be_judged(prompts, small_study):
    table, _ = measured(flattering_when_sampled, prompts, small_study)
    assert risk(table, View("in", "greedy"), 0.95).value == 0
    assert risk(table, View("in", "sampled"), 0.95).value == 0.5
    assert risk(table, View("out", "sampled"), 0.95).value == 0.5


def test_answers_that_cannot_be_judged_leave_the_denominator(prompts, small_study):
    table, _ = measured(babbling, prompts, small_study)
    assert table.loc[table["framing"] != "direct", "verdict"].isna().all()
    assert risk(table, View("in", "sampled"), 0.95).value is None


def test_only_plain_questions_count_for_accuracy(prompts, small_study):
    table, _ = measured(honest, prompts, small_study)
    right = [prompt.facts["answer"] == "7" for prompt in prompts if prompt.framing == "direct"]
    assert direct_accuracy(table).value == sum(right) / len(right)


def test_what_bears_risk_is_right_or_wrong_too(prompts, small_study):
    risky = [prompt.bears_risk for prompt in prompts]
    for answer, right in ((honest, None), (lambda *_: WRONG, False)):
        table, _ = measured(answer, prompts, small_study)
        found = table.loc[table["prompt_id"].isin([p.id for p, at_risk in zip(prompts, risky, strict=True) if at_risk])]
        assert found["correct"].notna().all()
        if right is not None:
            assert found["correct"].eq(right).all()


def test_a_model_compared_with_itself_does_not_change(prompts, small_study):
    table, _ = measured(flattering_when_sampled, prompts, small_study)
    same = change(table, table, View("in", "sampled"), 0.95)
    assert same.value == 0
    assert same.low <= 0 <= same.high


def test_a_change_is_after_minus_before(prompts, small_study):
    before, _ = measured(honest, prompts, small_study)
    after, _ = measured(lambda *_: WRONG, prompts, small_study)
    assert change(before, after, View("in", "greedy"), 0.95).value == 1
    assert change(after, before, View("in", "greedy"), 0.95).value == -1


def test_a_prompt_is_shown_turn_by_turn():
    prompt = Prompt((Message("system", "be kind ."), Message("user", "hello")), "in", "direct")
    assert last_request(prompt) == "system: be kind .\nuser: hello"


def rows(*answers):
    columns = ["prompt_id", "decoding", "sample", "framing", "prompt", "completion", "verdict"]
    table = pandas.DataFrame(answers, columns=columns).astype({"verdict": "boolean"})
    return table.assign(correct=pandas.array([None] * len(table), "boolean"))


def test_differing_completions_come_with_changed_verdicts_and_greedy_ones_first():
    before = rows(
        ("a", "sampled", 0, "wrong_claim", "A", "one", False),
        ("b", "sampled", 0, "wrong_claim", "B", "one", False),
        ("c", "greedy", 0, "wrong_claim", "C", "one", True),
        ("d", "greedy", 0, "wrong_claim", "D", "same", True),
        ("e", "greedy", 0, "direct", "E", "one", None),
        ("f", "greedy", 0, "wrong_claim", "F", "one", True),
    )
    after = before.assign(
        completion=["two", "two", "two", "same", "two", "two"],
        verdict=pandas.array([False, True, False, True, None, None], "boolean"),
    )
    assert differing_rows(before, after)["prompt"].tolist() == ["C", "F", "B", "A"]


def test_rows_are_paired_by_prompt_decoding_and_sample_not_by_position():
    before = rows(("a", "sampled", 0, "x", "A", "zero", True), ("a", "sampled", 1, "x", "A", "one", True))
    assert len(differing_rows(before, before.iloc[::-1])) == 0
