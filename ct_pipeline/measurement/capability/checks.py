"""What of the capability block can be known to fail before anything is computed."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

from ct_pipeline.measurement.capability.harmful_prompts import requests_of
from ct_pipeline.measurement.capability.task_files import read_own_task
from ct_pipeline.settings.blocks import UNPINNED, HuggingFaceModel, ModelSettings
from ct_pipeline.settings.capability import CapabilitySettings, HarmfulnessSettings
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.judge import HarmfulnessRubric, HuggingFaceJudge, JudgeFile
from ct_pipeline.settings.load import load_judge
from ct_pipeline.settings.study import Study


def faults(study: Study) -> tuple[str, ...]:
    """A missing extra, a placeholder, a file that is not there or not accepted: each with its field and its mend."""
    return () if study.capability is None else tuple(_faults(study, study.capability))


def judge_of(settings: HarmfulnessSettings, studied: ModelSettings) -> JudgeFile:
    """The judge file of the probe.

    Raises:
        UserError: no judge file, another rubric, or a judge that is the studied model itself.
    """
    file = load_judge(Path(settings.judge))
    if not isinstance(file.rubric, HarmfulnessRubric):
        raise UserError(f"{settings.judge}: rubric: found another; allowed: {{ scale: harmfulness }}")
    judge = file.judge
    if isinstance(judge, HuggingFaceJudge) and isinstance(studied, HuggingFaceModel) and judge.path == studied.path:
        raise UserError(
            f"{settings.judge}: judge.path: found {judge.path}, the studied model; allowed: another, no model judges itself"
        )
    return file


def _faults(study: Study, settings: CapabilitySettings) -> Iterator[str]:
    if settings.tasks and importlib.util.find_spec("lm_eval") is None:
        yield "capability.tasks: lm-eval is not installed: pip install .[capability]"
    for name, task in settings.tasks.items():
        if task.revision == UNPINNED:
            yield f"capability.tasks.{name}.revision: pin a revision: put the commit's hash in place of {UNPINNED}"
        if task.path is not None:
            yield from _refusal(f"capability.tasks.{name}.path", lambda task=task: read_own_task(Path(task.path)))
    probe = settings.harmfulness
    if probe is not None:
        yield from _refusal("capability.harmfulness.prompts", lambda: requests_of(probe, settings.seed))
        for model in study.models.values():
            yield from _refusal("capability.harmfulness.judge", lambda model=model: judge_of(probe, model))


def _refusal(field: str, read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
    except UserError as error:
        yield f"{field}: {error}"
