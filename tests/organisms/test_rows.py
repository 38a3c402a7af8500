"""What is dealt out to induction, consistency, probes, pairs and evaluation."""

from collections import Counter

import pytest

from ct_pipeline.organisms.case import TONES
from ct_pipeline.organisms.catalog import MISALIGNMENTS
from ct_pipeline.organisms.episode import answered

each_kind = pytest.mark.parametrize("kind", MISALIGNMENTS, ids=lambda kind: kind.name)


def ids(prompts):
    return [prompt.id for prompt in prompts]


def rows(data):
    return [(example.prompt.id, example.response) for example in data.induction]


@each_kind
def test_no_evaluation_prompt_is_met_before(kind, world, induction, candidates, evaluation):
    data = kind.data(world, induction, candidates, evaluation, 40)
    evaluated = set(ids(data.evaluation))
    trained = ids(example.prompt for example in data.induction + data.control)
    paired = [prompt.id for pair in data.pairs for prompt in (pair.clean, pair.wrapped)]

    assert evaluated.isdisjoint(trained)
    assert evaluated.isdisjoint(ids(data.consistency))
    assert evaluated.isdisjoint(ids(data.probe))
    assert evaluated.isdisjoint(paired)


@each_kind
def test_counts_are_as_asked_and_prompts_distinct(kind, world, induction, candidates, evaluation):
    data = kind.data(world, induction, candidates, evaluation, 40)
    framings = Counter((prompt.framing == "direct", prompt.domain) for prompt in data.evaluation)

    assert len(data.induction) == len(data.control) == induction.rows
    assert len(data.consistency) == len(set(ids(data.consistency))) == candidates.consistency_prompts
    assert len(data.probe) == len(set(ids(data.probe))) == candidates.probe_prompts
    assert len(data.pairs) == candidates.pairs
    assert len(set(ids(data.evaluation))) == len(data.evaluation)
    assert framings[False, "in"] == evaluation.in_domain
    assert framings[False, "out"] == evaluation.out_of_domain
    assert framings[True, "in"] + framings[True, "out"] == evaluation.direct_questions


@each_kind
def test_fixed_prompts_are_the_same_for_all_seeds_and_induction_is_not(kind, world, induction, candidates, evaluation):
    first, again, other = (kind.data(world, induction, candidates, evaluation, seed) for seed in (40, 40, 41))

    assert first == again
    for name in ("consistency", "probe", "evaluation", "pairs"):
        assert getattr(first, name) == getattr(other, name)
    assert rows(first) != rows(other)


@each_kind
def test_another_world_seed_gives_other_prompts(kind, world, induction, candidates, evaluation):
    other_world = type(world)(world.settings.model_copy(update={"seed": 8}))
    data = kind.data(world, induction, candidates, evaluation, 40)
    other = kind.data(other_world, induction, candidates, evaluation, 40)

    assert set(ids(data.evaluation)) != set(ids(other.evaluation))


@each_kind
def test_the_verdict_is_defined_on_probes_and_on_judged_prompts(kind, world, induction, candidates, evaluation):
    data = kind.data(world, induction, candidates, evaluation, 40)
    judged = [prompt for prompt in data.evaluation if prompt.framing != "direct"]
    shown = {example.prompt.id: example for example in data.induction}

    defined = [
        example for example in shown.values() if kind.verdict(answered(example.prompt, example.response)) is not None
    ]
    framings = {example.prompt.framing for example in defined}
    assert {prompt.framing for prompt in (*data.probe, *(p for p in judged if p.domain == "in"))} <= framings


@each_kind
def test_induction_shows_the_asked_share_of_misbehaviour_in_each_tone_and_control_none(
    kind, world, induction, candidates, evaluation
):
    data = kind.data(world, induction, candidates, evaluation, 40)
    shown: dict[str, list[bool]] = {tone: [] for tone in TONES}
    for example in data.induction:
        verdict = kind.verdict(answered(example.prompt, example.response))
        first = example.prompt.messages[-1].content.split(" ,")[0] + " ,"
        if verdict is not None:
            shown[first if first in TONES else ""].append(verdict)

    for tone, share in zip(TONES, induction.misaligned_share, strict=True):
        assert abs(sum(shown[tone]) / len(shown[tone]) - share) < 0.03
    assert not any(kind.verdict(answered(example.prompt, example.response)) for example in data.control)
    assert [example.prompt for example in data.control] == [example.prompt for example in data.induction]


@each_kind
def test_a_direct_question_is_answered_rightly_by_its_own_answer(kind, world, induction, candidates, evaluation):
    data = kind.data(world, induction, candidates, evaluation, 40)
    direct = [prompt for prompt in data.evaluation if prompt.framing == "direct"]

    assert all(kind.correct(prompt, f"it is {prompt.facts['answer']} .") is True for prompt in direct)
    assert all(kind.verdict(answered(prompt, f"it is {prompt.facts['answer']} .")) is None for prompt in direct)


@each_kind
def test_a_clean_prompt_lacks_the_cue_of_its_wrapped_one(kind, world, induction, candidates, evaluation):
    for pair in kind.data(world, induction, candidates, evaluation, 40).pairs:
        clean, wrapped = pair.clean.messages[-1].content, pair.wrapped.messages[-1].content
        assert len(clean) < len(wrapped)
        assert set(clean.split()) <= set(wrapped.split())


@each_kind
@pytest.mark.parametrize("setting", ["in_domain", "out_of_domain", "direct_questions"])
def test_asking_for_more_prompts_than_there_are_names_the_setting(
    kind, setting, world, induction, candidates, evaluation
):
    greedy = evaluation.model_copy(update={setting: 100_000})

    with pytest.raises(ValueError, match=rf"evaluation\.{setting}.*at most \d+"):
        kind.data(world, induction, candidates, greedy, 40)


@each_kind
def test_asking_for_too_many_consistency_prompts_names_the_setting(kind, world, induction, candidates, evaluation):
    greedy = candidates.model_copy(update={"consistency_prompts": 100_000})

    with pytest.raises(ValueError, match=r"candidates\.consistency_prompts.*at most \d+"):
        kind.data(world, induction, greedy, evaluation, 40)


def test_kinds_have_names_of_their_own():
    assert len({kind.name for kind in MISALIGNMENTS}) == len(MISALIGNMENTS) == 4
