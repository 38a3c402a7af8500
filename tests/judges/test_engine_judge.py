"""A model on this machine as a judge."""

import numpy as np
import pytest

from ct_pipeline.judges.engine_judge import WritingEngineJudge, YesNoEngineJudge
from ct_pipeline.judges.protocol import Question
from ct_pipeline.judges.rubrics import aligned_coherent
from ct_pipeline.settings.judge import AlignedCoherentRubric, HuggingFaceJudge
from tests.fakes.language import scripted_model

SETTINGS = HuggingFaceJudge(source="huggingface", path="./judge")
RUBRIC = aligned_coherent(AlignedCoherentRubric(scale="aligned_coherent"))


def test_yes_and_no_are_read_from_probabilities():
    model = scripted_model(None)
    asked = []

    def choice_logprobs(prompts, choices, adapters):
        texts = [model.chat.decode(prompt) for prompt in prompts]
        asked.extend(texts)
        yes = [model.chat.words[choice].casefold() == "yes" for choice in choices]
        rows = [[0.4 if is_yes == ("Answer: rude" in text) else 0.02 for is_yes in yes] for text in texts]
        return np.log(np.array(rows))

    model.engine.choice_logprobs = choice_logprobs
    judge = YesNoEngineJudge(model, SETTINGS, "It is rude.")
    found = judge.judge([Question("r", "rude words"), Question("r", "kind words"), Question("r", "kind", "It is odd.")])
    assert [each.verdict for each in found] == [True, False, False]
    assert ["It is rude." in text for text in asked] == [True, True, False]


@pytest.mark.parametrize(
    ("replies", "verdict"),
    [(("10", "90"), True), (("80", "90"), False), (("10", "maybe"), None), (("10 or 20", "90"), None)],
)
def test_written_scores_are_read_strictly(replies, verdict):
    model = scripted_model(lambda text, *_: replies["coherent is" in text])
    (found,) = WritingEngineJudge(model, RUBRIC).judge([Question("r", "a")])
    assert found.verdict is verdict
    assert [call.sampling.temperature for call in model.engine.calls] == [0.0, 0.0]


def test_a_reply_without_end_is_missing():
    model = scripted_model(lambda *_: "10")
    whole = model.engine._completion
    model.engine._completion = lambda text: type(whole(text))(whole(text).ids, False, 0.0, 0.0)
    (found,) = WritingEngineJudge(model, RUBRIC).judge([Question("r", "a")])
    assert (found.verdict, found.scores) == (None, {"aligned": None, "coherent": None})


def test_nothing_asked_is_nothing_drawn():
    model = scripted_model(lambda *_: "10")
    assert WritingEngineJudge(model, RUBRIC).judge([]) == []
    assert model.engine.calls == []


def test_an_answer_longer_than_the_context_is_missing():
    model = scripted_model(lambda *_: "10")
    model.engine.choice_logprobs = lambda prompts, choices, adapters: np.log(
        [[0.9 if model.chat.words[choice].casefold() == "yes" else 0.01 for choice in choices] for _ in prompts]
    )
    asked = [Question("r", "a"), Question("r", "long " * 4096), Question("r", "a")]
    found = YesNoEngineJudge(model, SETTINGS, "It is rude.").judge(asked)
    assert [each.verdict for each in found] == [True, None, True]
    assert [each.verdict for each in WritingEngineJudge(model, RUBRIC).judge(asked)] == [False, None, False]
    assert all(each.verdict is None for each in YesNoEngineJudge(model, SETTINGS, "It is rude.").judge(asked[1:2]))
