"""How often the judges of a study would be asked, at most, counted before anything runs."""

from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.judges.engine_judge import MOST_TOKENS
from ct_pipeline.judges.protocol import Question
from ct_pipeline.judges.rubrics import Rubric, rubric_of
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.measurement.study_conditions import prompts_under
from ct_pipeline.planning.sizes import Sizes, at_hand
from ct_pipeline.settings.errors import Refused
from ct_pipeline.settings.judge import HttpJudge, JudgeFile, RulesJudge, YesNoRubric
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.consistency_candidates import draws_of
from ct_pipeline.steps.judge_calibration import open_prompts
from ct_pipeline.steps.organism_evaluation import COMPARED_MODELS

LETTERS_OF_A_TOKEN = 4
"""About, in English text."""

SCALES = {"aligned_coherent": 2, "harmfulness": 3}
"""Prompts for one answer; one under other rubrics."""


@dataclass(frozen=True)
class JudgeWork:
    """What judges are asked, at most: each distinct answer is asked about once, and kept replies are not asked again.

    Attributes:
        requests: prompts to judges; rules are not asked.
        read_tokens: of those prompts, answers at their full length; without the requests' own texts.
        written_tokens: of the replies, at their full length.
    """

    requests: int = 0
    read_tokens: int = 0
    written_tokens: int = 0

    def __add__(self, other: "JudgeWork") -> "JudgeWork":
        return JudgeWork(
            self.requests + other.requests,
            self.read_tokens + other.read_tokens,
            self.written_tokens + other.written_tokens,
        )


def judge_work(study: Study, kind: str, organisms: int, sizes: Sizes, doses: int) -> JudgeWork:
    """The work of one kind's judges.

    Args:
        study: names the judges.
        kind: of misalignment.
        organisms: how many of that kind.
        sizes: rows of one of them.
        doses: answers by which the checkpoints of one of them are measured.
    """
    entry = study.judges.get(kind)
    if entry is None:
        return JudgeWork()
    asked = _Open.of(study, kind, sizes)
    measurements = len(COMPARED_MODELS) + len(study.methods)
    evaluated = measurements * asked.evaluation * (1 + study.evaluation.samples) + (doses if asked.evaluation else 0)
    candidates = sum(asked.prompts(draw) * draw.samples for draw in draws_of(study))
    labelled = _lines(entry.calibration)
    longest = study.evaluation.max_new_tokens
    work = _of(entry.judge, candidates * organisms, study.candidates.max_new_tokens)
    for file in entry.files.values():
        work += _of(file, evaluated * organisms + labelled, longest)
    return work


@dataclass(frozen=True)
class _Open:
    """Prompts of one organism whose answers only a judge can tell; all of them where the data are not at hand."""

    evaluation: int
    probe: int
    clean: int
    wrapped: int

    @classmethod
    def of(cls, study: Study, kind: str, sizes: Sizes) -> "_Open":
        if not at_hand(study, kind):
            return cls(sizes.evaluation, sizes.labelled - sizes.consistency, sizes.clean, sizes.wrapped)
        model = next(iter(study.models))
        data = rows_of(study, Organism(model, kind, study.seeds_of(model)[0]))
        parts = ((*data.evaluation, *prompts_under(study, data.evaluation)), data.probe, data.clean, data.wrapped)
        return cls(*(len(open_prompts(study, kind, prompts)) for prompts in parts))

    def prompts(self, draw: Draw) -> int:
        return {"consistency": self.probe, "clean": self.clean, "wrapped": self.wrapped}[draw.prompts]


def _of(file: JudgeFile, answers: int, longest: int) -> JudgeWork:
    if isinstance(file.judge, RulesJudge):
        return JudgeWork()
    scales = SCALES.get(file.rubric.scale, 1)
    if isinstance(file.judge, HttpJudge):
        written = file.judge.max_tokens
    else:
        written = 0 if isinstance(file.rubric, YesNoRubric) else MOST_TOKENS
    requests = answers * scales
    read = answers * (scales * longest + _wording(file))
    return JudgeWork(requests, read, requests * written)


def _wording(file: JudgeFile) -> int:
    """Tokens of what a judge is told beside request and answer, about; 0 where the rubric's file is not there."""
    try:
        rubric: Rubric = rubric_of(file)
    except Refused:
        return 0
    prompts = [scale.asked(Question("", ""), rubric.rule, constrained=True) for scale in rubric.scales]
    return sum(len(prompt) // LETTERS_OF_A_TOKEN for prompt in prompts)


def _lines(calibration: str | None) -> int:
    """Labelled answers; 0 where the file is not there."""
    if calibration is None or not Path(calibration).is_file():
        return 0
    return sum(
        1 for line in Path(calibration).read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
    )
