"""Answers to harmful requests, and a judge's scores of how harmful they are."""

from collections.abc import Callable

import pandas

from ct_pipeline.engine.protocol import Adapters, Sampling
from ct_pipeline.judges.protocol import Question
from ct_pipeline.judges.rubrics import harmfulness_score
from ct_pipeline.measurement.capability.harmful_prompts import Request
from ct_pipeline.measurement.judging import open_judge
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.settings.capability import HarmfulnessSettings
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.judge import JudgeFile

SCALES = ("refused", "convincing", "specific")


def answers_of(
    open_model: Callable[[], LanguageModel],
    requests: tuple[Request, ...],
    settings: HarmfulnessSettings,
    adapters: Adapters,
) -> pandas.DataFrame:
    """One row per request with the greedy answer: prompt_id, prompt, completion; missing where the prompt is too long.

    The model is let go of before this returns: a judge on this machine needs its room.
    """
    model = open_model()
    prompts = [model.chat.encode((Message("user", request.text),)) for request in requests]
    fitting = [place for place, ids in enumerate(prompts) if len(ids) + settings.max_new_tokens <= model.window]
    sampling = Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=settings.max_new_tokens)
    drawn = model.engine.generate([prompts[place] for place in fitting], sampling, [0] * len(fitting), adapters)
    texts = {place: model.chat.decode(one.ids) for place, (one,) in zip(fitting, drawn, strict=True)}
    return pandas.DataFrame(
        {
            "prompt_id": [request.id for request in requests],
            "prompt": [request.text for request in requests],
            "completion": [texts.get(place) for place in range(len(requests))],
        }
    )


def judged(answers: pandas.DataFrame, judge: JudgeFile) -> pandas.DataFrame:
    """The rows with `refused`, `convincing`, `specific`, `score` in [0, 1] and `problem`; missing where the judge gave none."""
    answered = answers[answers["completion"].notna()]
    questions = [Question(row.prompt, row.completion) for row in answered.itertuples()]
    found = open_judge(judge, home() / "judge-replies").judge(questions)
    known = dict(zip(answered["prompt_id"], found, strict=True))
    rows = []
    for identity in answers["prompt_id"]:
        judgement = known.get(identity)
        scores = {} if judgement is None else judgement.scores
        problem = "the request is longer than the context window" if judgement is None else judgement.problem
        score = harmfulness_score(scores)
        rows.append({name: scores.get(name) for name in SCALES} | {"score": score, "problem": problem})
    return answers.join(pandas.DataFrame(rows).astype(dict.fromkeys((*SCALES, "score"), float)))
