"""Opens the judge of a judge file; a model folder passes quarantine first."""

from pathlib import Path

from ct_pipeline.judges.engine_judge import WritingEngineJudge, YesNoEngineJudge
from ct_pipeline.judges.http_client import ChatClient
from ct_pipeline.judges.http_judge import HttpRubricJudge
from ct_pipeline.judges.protocol import Judge
from ct_pipeline.judges.reply_cache import ReplyCache
from ct_pipeline.judges.rubrics import rubric_of
from ct_pipeline.judges.rules_judge import rules_judge
from ct_pipeline.models.quarantine.inspection import inspect_checkpoint, inspect_template, require_clean
from ct_pipeline.stages.language_model import LanguageModel, opened
from ct_pipeline.study.judge_settings import (
    LOCAL,
    HttpJudge,
    HuggingFaceJudge,
    JudgeFile,
    RulesJudge,
    YesNoRubric,
)


def open_judge(file: JudgeFile, replies: Path) -> Judge:
    """The judge of a file, ready to be asked.

    Args:
        file: whose paths are known.
        replies: the folder in which replies of servers are kept.

    Raises:
        Refused: the rubric's file, or the folder of a model, is not accepted.
    """
    judge = file.judge
    if isinstance(judge, RulesJudge):
        return rules_judge(judge)
    if isinstance(judge, HttpJudge):
        return HttpRubricJudge(ChatClient(judge, ReplyCache(replies)), rubric_of(file))
    rubric = rubric_of(file)
    model = _opened(file, judge)
    if isinstance(file.rubric, YesNoRubric):
        return YesNoEngineJudge(model, judge, rubric.rule)
    return WritingEngineJudge(model, rubric)


def _opened(file: JudgeFile, judge: HuggingFaceJudge) -> LanguageModel:
    from ct_pipeline.models.loading import load_tokenizer

    location = file.place(judge.path) if judge.path.startswith(LOCAL) else judge.path
    if isinstance(location, Path):
        require_clean(inspect_checkpoint(location, numbers=True))
    tokenizer = load_tokenizer(location, judge.revision)
    require_clean(inspect_template(tokenizer.chat_template, tokenizer, f"chat template of {judge.path}"))
    return opened(str(location), judge.revision, judge.dtype, "transformers", 1)
