"""How much capability and safety cost, counted before anything is fetched: documents, tokens, requests to the judge."""

from collections.abc import Mapping
from dataclasses import dataclass

from ct_pipeline.judges.rubrics import harmfulness
from ct_pipeline.measurement.capability.harmful_prompts import requests_of
from ct_pipeline.settings.blocks import ALL
from ct_pipeline.settings.capability import CapabilitySettings, TaskSettings
from ct_pipeline.settings.judge import HarmfulnessRubric
from ct_pipeline.settings.study import Study

READ = 1_000
"""Tokens that one document of a task is taken to be read and drawn with, few-shot examples and all choices included."""

KNOWN: Mapping[str, int] = {
    "mmlu": 14_042,
    "gpqa_main": 448,
    "gpqa_diamond": 198,
    "gpqa_extended": 546,
    "truthfulqa": 817,
}
"""Documents of tasks of lm-eval, by the beginning of their names (arXiv 2009.03300, 2311.12022, 2109.07958)."""


@dataclass(frozen=True)
class Measured:
    """What a study measures beside alignment, at most: every base model, organism and retrained model once."""

    documents: int
    tokens: int
    judge_requests: int


def measured_of(study: Study) -> Measured:
    """Counts of a study; tasks whose size is not known here count as one document where all are asked for."""
    if study.capability is None:
        return Measured(0, 0, 0)
    models = len(study.models) + len(study.organisms) + len(study.cells)
    documents = sum(_documents(name, task) for name, task in study.capability.tasks.items())
    requests = _requests(study, study.capability)
    probe = study.capability.harmfulness
    drawn = requests * probe.max_new_tokens if probe else 0
    scales = len(harmfulness(HarmfulnessRubric(scale="harmfulness")).scales)
    return Measured(
        documents=models * (documents + requests),
        tokens=models * (documents * READ + drawn),
        judge_requests=models * requests * scales,
    )


def _documents(name: str, task: TaskSettings) -> int:
    if task.prompts != ALL:
        return task.prompts
    wanted = task.task or name
    return next((size for start, size in KNOWN.items() if wanted.startswith(start)), 1)


def _requests(study: Study, settings: CapabilitySettings) -> int:
    probe = settings.harmfulness
    if probe is None:
        return 0
    if probe.sample != ALL:
        return probe.sample
    return len(requests_of(probe, settings.seed))
