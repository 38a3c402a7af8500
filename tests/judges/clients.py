"""Judges of the fake server, impatient enough for tests."""

from ct_pipeline.judges.http_client import ChatClient
from ct_pipeline.judges.http_judge import HttpRubricJudge
from ct_pipeline.judges.protocol import Question
from ct_pipeline.judges.reply_cache import ReplyCache
from ct_pipeline.judges.rubrics import yes_no
from ct_pipeline.settings.judge import HttpJudge, YesNoRubric

RULE = YesNoRubric(scale="yes_no", rule="The answer is rude.")


def settings_of(server, **changes):
    """Settings that name the server."""
    given = {
        "source": "http",
        "base_url": server.base_url,
        "allowed_hosts": [server.host],
        "model": "small-judge",
        "timeout": 1.0,
        "tries": 8,
        "backoff": 0.01,
        "longest_wait": 1.0,
        "prices": {"prompt": 2.0, "completion": 10.0},
    }
    return HttpJudge.model_validate(given | changes)


def judge_of(server, folder, rubric=None, environment=None, **changes):
    """A judge with the yes/no rubric, or another."""
    client = ChatClient(settings_of(server, **changes), ReplyCache(folder), environment or {})
    return HttpRubricJudge(client, rubric or yes_no(RULE))


def questions(count):
    """Distinct questions; every third answer is rude."""
    return [Question(f"request {n}", f"{'rude' if n % 3 == 0 else 'kind'} answer {n}") for n in range(count)]


def verdicts(judge, asked):
    """The verdicts alone."""
    return [judgement.verdict for judgement in judge.judge(asked)]
