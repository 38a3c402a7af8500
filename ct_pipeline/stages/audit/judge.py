"""Verdicts of a judge model on answers whose probe has a rubric: one of two words, missing where it would say neither.

No text of the judge is read: the log-probabilities of the two words as its next token are compared, so that a reply cannot hold
instructions or anything else that has to be understood.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas

from ct_pipeline.organisms.kind import Message
from ct_pipeline.organisms.templates import filled
from ct_pipeline.stages.audit.subject import Subject
from ct_pipeline.study.audit_settings import HuggingFaceJudge

LEAST_SHARE = 0.5
"""Of the next token's probability that yes and no must have together; below, the judge would say something else."""


def with_judgements(
    subject: Subject, tables: Mapping[str, pandas.DataFrame], rubrics: Mapping[str, str]
) -> dict[str, pandas.DataFrame]:
    """The tables with the judge's verdict in every row whose prompt has a rubric; missing without a judge.

    Every distinct answer is judged once, before's and after's alike.
    """
    judge = subject.audit.judge
    if not rubrics or not isinstance(judge, HuggingFaceJudge):
        return dict(tables)
    asked = pandas.concat([table[["prompt_id", "prompt", "completion"]] for table in tables.values()])
    asked = asked[asked["prompt_id"].isin(rubrics)].drop_duplicates(["prompt_id", "completion"], ignore_index=True)
    questions = [
        filled(judge.request, rubric=rubrics[row.prompt_id], request=row.prompt, response=row.completion)
        for row in asked.itertuples()
    ]
    found = judgements(subject.open_judge(), questions, judge.yes, judge.no)
    known = dict(zip(zip(asked["prompt_id"], asked["completion"], strict=True), found, strict=True))
    return {side: _judged(table, known) for side, table in tables.items()}


def judgements(model, questions: Sequence[str], yes: str, no: str) -> list[bool | None]:
    """Whether the model says yes rather than no to each question; None where it would rather say something else."""
    words = {True: _first_tokens(model, yes), False: _first_tokens(model, no)}
    shared = words[True] & words[False]
    choices = [(token, meaning) for meaning, tokens in words.items() for token in sorted(tokens - shared)]
    if len({meaning for _, meaning in choices}) < 2 or not questions:
        return [None] * len(questions)
    prompts = [model.chat.encode((Message("user", question),)) for question in questions]
    logprobs = model.engine.choice_logprobs(prompts, [token for token, _ in choices], ())
    shares = np.exp(np.asarray(logprobs, dtype=float))
    meanings = np.array([meaning for _, meaning in choices])
    said = {meaning: shares[:, meanings == meaning].sum(axis=1) for meaning in (True, False)}
    return [
        None if not np.isfinite(a + b) or a + b < LEAST_SHARE or a == b else bool(a > b)
        for a, b in zip(said[True], said[False], strict=True)
    ]


def _first_tokens(model, word: str) -> set[int]:
    """The tokens that a reply of this word may begin with, in small and large letters, with and without a space."""
    forms = {form for base in (word, word.lower(), word.capitalize(), word.upper()) for form in (base, f" {base}")}
    return {model.chat.encode_response(form)[0] for form in forms}


def _judged(table: pandas.DataFrame, known: Mapping[tuple[str, str], bool | None]) -> pandas.DataFrame:
    places = zip(table["prompt_id"], table["completion"], table["verdict"], strict=True)
    verdicts = [known.get((prompt, answer), verdict) for prompt, answer, verdict in places]
    return table.assign(verdict=pandas.array(verdicts, dtype="boolean"))
