"""A rubric put to a model behind an OpenAI-compatible server."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ct_pipeline.judges.http_client import ChatClient, JudgeUnreachable
from ct_pipeline.judges.protocol import Judgement, Question
from ct_pipeline.judges.rubrics import Rubric, Scale
from ct_pipeline.judges.spending import Spending
from ct_pipeline.judges.wire import Ask, Reply

FEWEST_CUT = 3
"""Different lengths of prompts that one number of tokens is reported for where prompts are cut."""
LONGER = 1.5


@dataclass(frozen=True)
class HttpRubricJudge:
    """Implements Judge: each scale of each question is one prompt; `spent` counts what that took."""

    client: ChatClient
    rubric: Rubric

    @property
    def spent(self) -> Spending:
        """Counts of all calls so far."""
        return self.client.spent

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        """One judgement per question.

        Raises:
            UserError: as `ChatClient.ask`; also where the server refuses every single request.
        """
        scales = self.rubric.scales
        asks = [self._ask(scale, question) for question in questions for scale in scales]
        replies = self.client.ask(asks)
        if replies and all(reply.refused for reply in replies):
            hint = "" if self._plain else "; a server without json_schema needs answers: text"
            raise JudgeUnreachable(f"judge {self.client.settings.model}: {replies[0].problem}, every one{hint}")
        asked = [ask.prompt for ask in asks]
        replies = [_uncut(reply, window) for reply, window in zip(replies, cut_windows(asked, replies), strict=True)]
        rows = [replies[start : start + len(scales)] for start in range(0, len(replies), len(scales))]
        return [self._judgement(row) for row in rows]

    @property
    def _plain(self) -> bool:
        return self.client.settings.answers == "text"

    def _ask(self, scale: Scale, question: Question) -> Ask:
        prompt = scale.asked(question, self.rubric.rule, constrained=not self._plain)
        return Ask(prompt, None if self._plain else scale.answers.schema)

    def _judgement(self, replies: Sequence[Reply]) -> Judgement:
        scores = {
            scale.name: self._score(scale, reply) for scale, reply in zip(self.rubric.scales, replies, strict=True)
        }
        return self.rubric.judgement(scores, next((reply.problem for reply in replies if reply.problem), ""))

    def _score(self, scale: Scale, reply: Reply) -> float | None:
        if reply.text is None:
            return None
        return scale.answers.read(reply.text) if self._plain else scale.answers.read_json(reply.text)


def cut_windows(prompts: Sequence[str], replies: Sequence[Reply]) -> list[int | None]:
    """For each prompt the number of tokens that the server cut it to; None where it did not.

    A server that reports one number of tokens for three prompts or more, the longest of which is `LONGER` times as long as
    the shortest, has cut the longer ones to its window and answered all the same.

    Args:
        prompts: as they were sent.
        replies: in their order.
    """
    lengths: dict[int, set[int]] = {}
    for prompt, reply in zip(prompts, replies, strict=True):
        if reply.prompt_tokens is not None:
            lengths.setdefault(reply.prompt_tokens, set()).add(len(prompt))
    cut = {
        tokens: min(found)
        for tokens, found in lengths.items()
        if len(found) >= FEWEST_CUT and max(found) > LONGER * min(found)
    }
    return [
        reply.prompt_tokens if reply.prompt_tokens in cut and len(prompt) > LONGER * cut[reply.prompt_tokens] else None
        for prompt, reply in zip(prompts, replies, strict=True)
    ]


def _uncut(reply: Reply, window: int | None) -> Reply:
    if window is None:
        return reply
    why = f"the server cut the prompt to {window} tokens: raise its context window"
    return replace(reply, text=None, problem=why)
