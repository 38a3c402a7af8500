"""What a study would do, counted before anything runs; token counts are upper bounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ct_pipeline.methods.catalog import method_of
from ct_pipeline.methods.proposal import Draw
from ct_pipeline.methods.scorer import Agreement, Grade, Scorer
from ct_pipeline.organisms.kind import OrganismData
from ct_pipeline.stages.candidate_scores import GRADE_TOKENS, JUDGE_TOKENS, scorers_of
from ct_pipeline.stages.consistency_candidates import (
    compared_draws,
    draws_of,
    draws_of_method,
    prompts_of,
    scorer_of_method,
    with_drafts,
)
from ct_pipeline.stages.organism_evaluation import ARMS
from ct_pipeline.stages.rows import rows_of
from ct_pipeline.study.settings import BaseModelJudge, TinyWorldModel, TrainingSettings
from ct_pipeline.study.spec import Study

TRAINING_STAGES = ("misaligned_organism", "control_organism", "retrained_model")
DRAWING_STAGES = ("organism_evaluation", "consistency_candidates", "evaluation")
COMPARING_STAGES = ("distribution_shift", "uptake")
"""They compare next-token laws on the base model's weights; the former does where a method trains on pairs."""


@dataclass(frozen=True)
class Plan:
    """The size of a study.

    Attributes:
        models, organisms, cells: how many.
        trainings: adapters to train (organisms, controls, retrained models).
        model_loads: base models read from disk: one per worker process where the study has one model, three if that is
            served by vLLM, one per base model, stage and process where it has several (one is held at a time); never one
            per cell.
        engine_starts: engines opened: one per worker process where the study has one model, two if that is served by
            vLLM, one per base model, process and stage that draws where it has several.
        draws: distinct ways of drawing candidates from an organism.
        draws_unshared: the same if every method drew its own.
        pretraining_tokens: tokens that base models are pretrained on.
        candidate_tokens: at most so many tokens drawn as candidates and grades, all organisms together.
        candidate_tokens_unshared: the same if every method drew its own, as many as now.
        candidate_tokens_faithful: the same in faithful mode: every method draws its own, as many as published.
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
    candidate_tokens_faithful: int
    evaluation_tokens: int
    trained_tokens: int


def plan_of(study: Study, workers: int) -> Plan:
    """Counts what a study would do with so many worker processes."""
    tiny = sum(isinstance(model, TinyWorldModel) for model in study.models.values())
    faithful = study.model_copy(update={"candidates": study.candidates.model_copy(update={"generation": "faithful"})})
    unshared = [draw for method in study.methods for draw in with_drafts(draws_of_method(study, method))]
    unshared += compared_draws(study)
    scorers = [scorer for method in study.methods if (scorer := scorer_of_method(study, method))]
    loads, starts = _openings(study)
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
        model_loads=loads * workers,
        engine_starts=starts * workers,
        draws=len(draws_of(study)),
        draws_unshared=len(unshared),
        pretraining_tokens=tiny * study.pretraining.tokens,
        candidate_tokens=_candidate_tokens(study, draws_of(study), scorers_of(study)),
        candidate_tokens_unshared=_candidate_tokens(study, unshared, scorers),
        candidate_tokens_faithful=_candidate_tokens(faithful, draws_of(faithful), scorers_of(faithful)),
        evaluation_tokens=(measurements * prompts * (1 + study.evaluation.samples) + _dose_answers(study))
        * study.evaluation.max_new_tokens,
        trained_tokens=len(study.organisms) * (2 * induction + retraining),
    )


def _openings(study: Study) -> tuple[int, int]:
    """Loads of base models and starts of engines by one worker process."""
    several = len(study.models) > 1
    on_pairs = any(method_of(study, method).objective != "labels" for method in study.methods)
    on_weights = len(TRAINING_STAGES) + (len(COMPARING_STAGES) if on_pairs else 1)
    drawing = len(DRAWING_STAGES)
    loads = starts = 0
    for model in study.models.values():
        if model.engine == "vllm":
            # It has its own weights and takes turns with the base model's: induction, measuring and drawing, the teacher
            # shift and retraining, measuring, uptake.
            loads += on_weights if several else 3
            starts += drawing if several else 2
        else:
            loads += on_weights + drawing if several else 1
            starts += drawing if several else 1
    return loads, starts


def _candidate_tokens(study: Study, draws: Sequence[Draw], scorers: Sequence[Scorer]) -> int:
    longest = study.candidates.max_new_tokens
    total = 0
    for organism in study.organisms:
        data = rows_of(study, organism)
        total += sum(len(prompts_of(data, draw)) * draw.samples * draw.beams for draw in draws) * longest
        total += sum(_scoring_tokens(data, scorer) for scorer in scorers)
    return total


def _scoring_tokens(data: OrganismData, scorer: Scorer) -> int:
    candidates = sum(len(prompts_of(data, draw)) * draw.samples for draw in scorer.draws)
    if isinstance(scorer, Grade):
        return candidates * GRADE_TOKENS
    if isinstance(scorer, Agreement) and isinstance(scorer.judge, BaseModelJudge):
        return candidates * JUDGE_TOKENS
    return 0


def _labels(study: Study, method: str) -> int:
    return (
        study.candidates.pairs
        if method_of(study, method).objective != "labels"
        else study.candidates.consistency_prompts
    )


def _dose_answers(study: Study) -> int:
    """Answers by which checkpoints before the last are measured, all cells together."""
    checkpoints = 0
    for method in study.methods:
        training = study.training_of(method)
        if training.checkpoints == "epoch":
            rows = _labels(study, method)
            checkpoints += math.ceil(_steps(training, rows) / math.ceil(rows / _batch(training))) - 1
    return len(study.organisms) * checkpoints * study.evaluation.in_domain * study.evaluation.samples


def _batch(training: TrainingSettings) -> int:
    return training.micro_batch * training.accumulation


def _steps(training: TrainingSettings, rows: int) -> int:
    return training.steps or math.ceil(math.ceil(rows / _batch(training)) * training.epochs)


def _trained_tokens(training: TrainingSettings, rows: int, longest: int) -> int:
    return _steps(training, rows) * _batch(training) * longest
