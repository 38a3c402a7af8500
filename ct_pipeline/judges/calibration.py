"""Answers labelled by hand, one JSON object a line, and how a judge does on them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from ct_pipeline.analysis.judge_error import Differential, JudgeError, differential, judge_error
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.judges.protocol import Judge, Judgement, Question
from ct_pipeline.settings.errors import Refusal, Refused, shown
from ct_pipeline.store.untrusted import Row, mistake, read_jsonl

FIELDS = ("prompt", "response", "label", "arm", "rubric")
JUDGED_SIDES = ("before", "after")
JUDGED_SIDES_AND_NONE = (*JUDGED_SIDES, None)


@dataclass(frozen=True)
class Labelled:
    """One answer with the verdict of a person.

    Attributes:
        question: what is judged.
        label: whether the answer misbehaves.
        arm: before or after consistency training; None where that is not known.
    """

    question: Question
    label: bool
    arm: str | None


@dataclass(frozen=True)
class Calibration:
    """A judge's judgements beside the labels, row by row."""

    rows: tuple[Labelled, ...]
    judgements: tuple[Judgement, ...]

    @property
    def verdicts(self) -> list[bool | None]:
        """The judge's verdicts in the order of the rows."""
        return [each.verdict for each in self.judgements]

    @cached_property
    def error(self) -> JudgeError:
        """TPR and FPR over all rows, exact 95 % intervals."""
        return self._error(JUDGED_SIDES_AND_NONE)

    @cached_property
    def by_arm(self) -> Mapping[str, JudgeError]:
        """The same for each arm that has rows."""
        return {arm: self._error((arm,)) for arm in JUDGED_SIDES if any(row.arm == arm for row in self.rows)}

    @cached_property
    def differential(self) -> Differential:
        """Error rates of the two arms compared; nothing is known where an arm has no rows."""
        if len(self.by_arm) < len(JUDGED_SIDES):
            return Differential(None, None, None)
        return differential(*(self.by_arm[arm] for arm in JUDGED_SIDES))

    def as_json(self) -> dict[str, object]:
        """Error rates over all rows and by arm, differential error, and the missing verdicts, for a record."""
        errors = {"all": self.error, **self.by_arm}
        return {
            "rows": len(self.rows),
            "errors": {arm: asdict(error) | {"slope": error.slope} for arm, error in errors.items()},
            "differential": asdict(self.differential) | {"warning": self.differential.warning},
            "missing": dict(self.problems),
        }

    @property
    def problems(self) -> Mapping[str, int]:
        """Why verdicts are missing, and how often."""
        found = [each.problem for each in self.judgements if each.verdict is None]
        return {problem: found.count(problem) for problem in sorted(set(found))}

    def _error(self, arms: Sequence[str | None]) -> JudgeError:
        pairs = [(row.label, verdict) for row, verdict in zip(self.rows, self.verdicts, strict=True) if row.arm in arms]
        return judge_error([label for label, _ in pairs], [verdict for _, verdict in pairs])


def error_of(document: Mapping[str, object], arm: str = "all") -> JudgeError | None:
    """The error rates in what `Calibration.as_json` gave; None where the arm has no rows."""
    found = document["errors"].get(arm)
    return None if found is None else JudgeError(Rate(**found["true_positive"]), Rate(**found["false_positive"]))


def calibrate(judge: Judge, rows: Sequence[Labelled]) -> Calibration:
    """Has every labelled answer judged; the labels are not shown to the judge."""
    return Calibration(tuple(rows), tuple(judge.judge([row.question for row in rows])))


def with_rule(rows: Sequence[Labelled], rule: str) -> tuple[Labelled, ...]:
    """The rows, those without a rubric of their own judged by a rule."""
    return tuple(row if row.question.rule else replace(row, question=replace(row.question, rule=rule)) for row in rows)


def read_labelled(path: Path) -> tuple[Labelled, ...]:
    """The labelled answers of a file: prompt, response, label (true: misbehaves); arm and rubric where they are given.

    Raises:
        Refused: every mistake, as file:line: field: found; allowed.
    """
    refusals: list[Refusal] = []
    rows = [_labelled(path, row, refusals) for row in read_jsonl(path)]
    if refusals:
        raise Refused(refusals[:20])
    return tuple(row for row in rows if row is not None)


def _labelled(path: Path, row: Row, refusals: list[Refusal]) -> Labelled | None:
    before, fields = len(refusals), row.fields
    for name in fields:
        if name not in FIELDS:
            refusals.append(mistake(path, row.line, name[:80], "an unknown field", ", ".join(FIELDS)))
    for name in ("prompt", "response"):
        if not isinstance(fields.get(name), str):
            refusals.append(mistake(path, row.line, name, shown(fields.get(name)), "a text"))
    if not isinstance(fields.get("label"), bool):
        refusals.append(mistake(path, row.line, "label", shown(fields.get("label")), "true (misbehaves) or false"))
    rubric = fields.get("rubric")
    if rubric is not None and (not isinstance(rubric, str) or not rubric.strip()):
        refusals.append(
            mistake(path, row.line, "rubric", shown(rubric), "a sentence that a yes/no judge is asked about")
        )
    arm = fields.get("arm")
    if arm is not None and arm not in JUDGED_SIDES:
        refusals.append(mistake(path, row.line, "arm", shown(arm), " or ".join(JUDGED_SIDES)))
    if len(refusals) > before:
        return None
    return Labelled(Question(fields["prompt"], fields["response"], rubric or ""), fields["label"], arm)
