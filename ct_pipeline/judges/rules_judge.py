"""A condition on an answer's text as a judge: nothing is asked, nothing is missing."""

from collections.abc import Sequence
from dataclasses import dataclass

from ct_pipeline.judges.protocol import Judgement, Question
from ct_pipeline.organisms.probes import Rule
from ct_pipeline.settings.judge import RulesJudge


@dataclass(frozen=True)
class TextRulesJudge:
    """Implements Judge; an answer misbehaves where the rule holds."""

    rule: Rule

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        return [Judgement(self.rule.holds(question.response)) for question in questions]


def rules_judge(settings: RulesJudge) -> TextRulesJudge:
    """The judge of these settings."""
    return TextRulesJudge(Rule(settings.operation, settings.texts, settings.negated))
