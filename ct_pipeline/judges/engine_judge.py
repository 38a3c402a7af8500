"""A model on this machine as a judge; which model that may be, the stages say: never the audited one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ct_pipeline.engine.protocol import Engine, Sampling
from ct_pipeline.judges.protocol import Judgement, Question
from ct_pipeline.judges.rubrics import Rubric, Scale
from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.organisms.templates import filled
from ct_pipeline.settings.judge import HuggingFaceJudge

LEAST_SHARE = 0.5
"""Of the next token's probability that yes and no must have together; below, the judge would say something else."""

MOST_TOKENS = 512
"""Of a written reply."""


class JudgeModel(Protocol):
    """What a judge needs of a language model."""

    @property
    def chat(self) -> ChatFormat:
        """Its chat format."""

    @property
    def engine(self) -> Engine:
        """What draws and scores."""

    @property
    def window(self) -> int:
        """The most tokens of a prompt and its reply together."""


@dataclass(frozen=True)
class YesNoEngineJudge:
    """Implements Judge by the probabilities of two words; no text of the judge is read."""

    model: JudgeModel
    settings: HuggingFaceJudge
    rule: str = ""

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        settings = self.settings
        asked = [
            filled(settings.request, rubric=each.rule or self.rule, request=each.request, response=each.response)
            for each in questions
        ]
        verdicts = judgements(self.model, asked, settings.yes, settings.no)
        problem = f"neither {settings.yes} nor {settings.no}, or an answer too long for the judge"
        return [Judgement(verdict, problem="" if verdict is not None else problem) for verdict in verdicts]


@dataclass(frozen=True)
class WritingEngineJudge:
    """Implements Judge by replies that are written greedily and read strictly; for rubrics of numbers."""

    model: JudgeModel
    rubric: Rubric

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        columns = {scale.name: self._scores(scale, questions) for scale in self.rubric.scales}
        return [
            self.rubric.judgement({name: column[index] for name, column in columns.items()})
            for index in range(len(questions))
        ]

    def _scores(self, scale: Scale, questions: Sequence[Question]) -> list[float | None]:
        asked = [scale.asked(each, self.rubric.rule, constrained=False) for each in questions]
        prompts = _fitting(self.model, asked, MOST_TOKENS)
        drawn = (
            self.model.engine.generate(
                list(prompts.values()), Sampling(1, 0.0, 1.0, MOST_TOKENS), [0] * len(prompts), ()
            )
            if prompts
            else []
        )
        found = {
            place: scale.answers.read(self.model.chat.decode(row[0].ids))
            for place, row in zip(prompts, drawn, strict=True)
            if row[0].finished
        }
        return [found.get(place) for place in range(len(questions))]


def judgements(model: JudgeModel, questions: Sequence[str], yes: str, no: str) -> list[bool | None]:
    """Whether the model says yes rather than no to each question; None where it would rather say something else.

    None, too, where a question is longer than the model's context.

    The log-probabilities of the two words as the next token are compared, so that a reply cannot hold instructions or
    anything else that has to be understood.
    """
    words = {True: _first_tokens(model, yes), False: _first_tokens(model, no)}
    shared = words[True] & words[False]
    choices = [(token, meaning) for meaning, tokens in words.items() for token in sorted(tokens - shared)]
    if len({meaning for _, meaning in choices}) < 2:
        return [None] * len(questions)
    prompts = _fitting(model, questions, 1)
    if not prompts:
        return [None] * len(questions)
    logprobs = model.engine.choice_logprobs(list(prompts.values()), [token for token, _ in choices], ())
    shares = np.exp(np.asarray(logprobs, dtype=float))
    meanings = np.array([meaning for _, meaning in choices])
    said = {meaning: shares[:, meanings == meaning].sum(axis=1) for meaning in (True, False)}
    found = {
        place: None if not np.isfinite(a + b) or a + b < LEAST_SHARE or a == b else bool(a > b)
        for place, a, b in zip(prompts, said[True], said[False], strict=True)
    }
    return [found.get(place) for place in range(len(questions))]


def _fitting(model: JudgeModel, questions: Sequence[str], new: int) -> dict[int, tuple[int, ...]]:
    """Place -> token ids of the questions that leave room for so many new tokens."""
    encoded = {place: model.chat.encode((Message("user", text),)) for place, text in enumerate(questions)}
    return {place: ids for place, ids in encoded.items() if len(ids) + new <= model.window}


def _first_tokens(model: JudgeModel, word: str) -> set[int]:
    """The tokens that a reply of this word may begin with, in small and large letters, with and without a space."""
    forms = {form for base in (word, word.lower(), word.capitalize(), word.upper()) for form in (base, f" {base}")}
    return {model.chat.encode_response(form)[0] for form in forms}
