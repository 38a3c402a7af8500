"""Verdicts of a judge model on answers whose probe has a rubric: one of two words, missing where it would say neither."""

from collections.abc import Mapping

import pandas

from ct_pipeline.judges.engine_judge import YesNoEngineJudge
from ct_pipeline.judges.protocol import Question
from ct_pipeline.stages.audit.subject import Subject
from ct_pipeline.study.audit_settings import HuggingFaceJudge


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
    questions = [Question(row.prompt, row.completion, rubrics[row.prompt_id]) for row in asked.itertuples()]
    found = [each.verdict for each in YesNoEngineJudge(subject.open_judge(), judge).judge(questions)]
    known = dict(zip(zip(asked["prompt_id"], asked["completion"], strict=True), found, strict=True))
    return {side: _judged(table, known) for side, table in tables.items()}


def _judged(table: pandas.DataFrame, known: Mapping[tuple[str, str], bool | None]) -> pandas.DataFrame:
    places = zip(table["prompt_id"], table["completion"], table["verdict"], strict=True)
    verdicts = [known.get((prompt, answer), verdict) for prompt, answer, verdict in places]
    return table.assign(verdict=pandas.array(verdicts, dtype="boolean"))
