"""What a study would do, counted before anything runs; token counts are upper bounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ct_pipeline.methods.catalog import method_named
from ct_pipeline.stages.consistency_candidates import GRADE_TOKENS, draws_of, prompts_of, rubrics_of
from ct_pipeline.stages.organism_evaluation import ARMS
from ct_pipeline.stages.rows import rows_of
from ct_pipeline.study.settings import TinyWorldModel, TrainingSettings
from ct_pipeline.study.spec import Study


@dataclass(frozen=True)
class Plan:
    """The size of a study.

    Attributes:
        models, organisms, cells: how many.
        trainings: adapters to train (organisms, controls, retrained models).
        model_loads: base models read from disk, at most: one per base model and worker process.
        engine_starts: engines opened, at most: one per base model and worker process, never one per cell.
        draws: distinct ways of drawing candidates from an organism.
        draws_unshared: the same if every method drew its own.
        pretraining_tokens: tokens that base models are pretrained on.
        candidate_tokens: at most so many tokens drawn as candidates and grades, all organisms together.
        candidate_tokens_unshared: the same if every method drew its own.
        evaluation_tokens: at most so many tokens drawn to measure organisms and cells.
        trained_tokens: at most so many response tokens trained on, all phases together.
    """

    models: int
    organisms: int
    cells: int
    trainings: int
    model_loads: int
    engine_starts: int
    draws: int
    draws_unshared: int
    pretraining_tokens: int
    candidate_tokens: int
    candidate_tokens_unshared: int
    evaluation_tokens: int
    trained_tokens: int


def plan_of(study: Study, workers: int) -> Plan:
    """Counts what a study would do with so many worker processes."""
    tiny = sum(isinstance(model, TinyWorldModel) for model in study.models.values())
    candidate = [_candidate_tokens(study, draws_of(study), rubrics_of(study), organism) for organism in study.organisms]
    unshared = [
        _candidate_tokens(study, _each_method(study, "draw"), _each_method(study, "rubric"), organism)
        for organism in study.organisms
    ]
    # Every organism measures three arms, every cell one.
    measurements = len(ARMS) * len(study.organisms) + len(study.cells)
    prompts = study.evaluation.in_domain + study.evaluation.out_of_domain + study.evaluation.direct_questions
    retraining = sum(
        _trained_tokens(study.training_of(method), _labels(study, method), study.candidates.max_new_tokens)
        for method in study.methods
    )
    induction = _trained_tokens(study.induction.training, study.induction.rows, study.candidates.max_new_tokens)
    return Plan(
        models=len(study.models),
        organisms=len(study.organisms),
        cells=len(study.cells),
        trainings=2 * len(study.organisms) + len(study.cells),
        model_loads=len(study.models) * workers,
        engine_starts=len(study.models) * workers,
        draws=len(draws_of(study)),
        draws_unshared=len(study.methods),
        pretraining_tokens=tiny * study.pretraining.tokens,
        candidate_tokens=sum(candidate),
        candidate_tokens_unshared=sum(unshared),
        evaluation_tokens=measurements * prompts * (1 + study.evaluation.samples) * study.evaluation.max_new_tokens,
        trained_tokens=len(study.organisms) * (2 * induction + retraining),
    )


def _each_method(study: Study, part: str) -> list:
    made = [
        getattr(method_named(name), part)(settings, study.candidates.samples)
        for name, settings in study.methods.items()
    ]
    return [one for one in made if one is not None]


def _candidate_tokens(study: Study, draws: Sequence, rubrics: Sequence, organism) -> int:
    data = rows_of(study, organism)
    drawn = sum(len(prompts_of(data, draw)) * draw.samples for draw in draws) * study.candidates.max_new_tokens
    graded = sum(len(prompts_of(data, rubric.draw)) * rubric.draw.samples for rubric in rubrics) * GRADE_TOKENS
    return drawn + graded


def _labels(study: Study, method: str) -> int:
    return study.candidates.pairs if method_named(method).objective == "bct" else study.candidates.consistency_prompts


def _trained_tokens(training: TrainingSettings, rows: int, longest: int) -> int:
    batch = training.micro_batch * training.accumulation
    steps = training.steps or math.ceil(rows / batch) * math.ceil(training.epochs)
    return steps * batch * longest
