"""Answers labelled by hand, one JSON object a line, and how a judge does on them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, StrictBool

from ct_pipeline.analysis.judge_error import Differential, JudgeError, differential, judge_error
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.judges.protocol import Judge, Judgement, Question
from ct_pipeline.store.row_models import Filled, RowModel, read_rows

JUDGED_SIDES = ("before", "after")
JUDGED_SIDES_AND_NONE = (*JUDGED_SIDES, None)


class Labelled(RowModel):
    """One answer with the verdict of a person; `arm`: before or after consistency training, None where that is not known."""

    prompt: str = Field(description="a text")
    response: str = Field(description="a text")
    label: StrictBool = Field(description="true (misbehaves) or false")
    arm: Literal[*JUDGED_SIDES] | None = Field(None, description=" or ".join(JUDGED_SIDES))
    rubric: Filled | None = Field(None, description="a sentence that a yes/no judge is asked about")

    @property
    def question(self) -> Question:
        """What is judged; the label is not in it."""
        return Question(self.prompt, self.response, self.rubric or "")


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
    return tuple(row if row.rubric else row.model_copy(update={"rubric": rule}) for row in rows)


def read_labelled(path: Path) -> tuple[Labelled, ...]:
    """The labelled answers of a file: prompt, response, label (true: misbehaves); arm and rubric where they are given.

    Raises:
        Refused: every mistake, as file:line: field: found; allowed.
    """
    return read_rows(path, Labelled).accepted()
