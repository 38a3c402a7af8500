"""What a study would do, counted before anything runs; token counts are upper bounds."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.intervention import ConsistencyLoss, ModelChange
from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.interventions.scorer import Agreement, DataRubric, Grade, Scorer
from ct_pipeline.planning.capability_size import measured_of
from ct_pipeline.planning.judge_plan import JudgeWork, judge_work
from ct_pipeline.planning.model_shapes import shape_of
from ct_pipeline.planning.sizes import Sizes, sizes_of
from ct_pipeline.settings.blocks import BaseModelJudge, TinyWorldModel, TrainingSettings
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.base_model import rank_beside
from ct_pipeline.steps.candidate_scores import CRITIQUE_TOKENS, GRADE_TOKENS, JUDGE_TOKENS, scorers_of
from ct_pipeline.steps.consistency_candidates import (
    compared_draws,
    draws_of,
    draws_of_method,
    scorer_of_method,
    with_drafts,
)
from ct_pipeline.steps.organism_evaluation import COMPARED_MODELS
from ct_pipeline.steps.retrained_model import trains
from ct_pipeline.tinyworld import packaged

TRAINING_STAGES = ("misaligned_organism", "control_organism", "retrained_model")
DRAWING_STAGES = ("organism_evaluation", "consistency_candidates", "evaluation")
RELEASED_STARTS, RELEASED_LOADS = 39, 10
"""Engine starts and base-model loads of the released code for one organism: 4,212 and 1,080 for the paper's 108."""
RATE_OF = 8.03e9
"""Parameters of the model that the rates of `Rates` are for."""
ADAPTER_BYTES = {"float32": 4, "bfloat16": 2}
"""Of one number, by the `adapter_dtype` of its training."""


@dataclass(frozen=True)
class Rates:
    """Tokens per second and GPU of a model of 8B parameters in bf16; other models go by their active parameters.

    The defaults are assumptions, about what one H100 does with full batches; they were not measured here.
    """

    drawn: float = 10_000.0
    trained: float = 5_000.0


ASSUMED = Rates()


@dataclass(frozen=True)
class Plan:
    """The size of a study.

    Attributes:
        models, organisms, cells: how many.
        trainings: adapters to train (organisms, controls, retrained models).
        model_loads: base models read from disk, models one after another: by each worker process once per model; under
            vLLM, whose engine takes turns with the weights, twice for training and once for the uptake.
        uptake_loads: those of them that only measuring the uptake needs.
        engine_starts: engines opened: by each worker process once per model, twice under vLLM.
        released_loads, released_starts: what the paper's released code does for so many organisms.
        draws: distinct ways of drawing candidates from an organism.
        draws_unshared: the same if every method drew its own.
        pretraining_tokens: tokens that base models are pretrained on; none for the model that comes with the package.
        candidate_tokens: at most so many tokens drawn as candidates and grades, all organisms together.
        candidate_tokens_unshared: the same if every method drew its own, as many as now.
        candidate_tokens_faithful: the same in faithful mode: every method draws its own, as many as published.
        evaluation_tokens: at most so many tokens drawn to measure organisms and cells.
        capability_documents: documents and harmful requests measured, every model once.
        capability_tokens: read and drawn for them, by `stages.capability.sizes.READ` a document; not in `gpu_hours`.
        judge_requests: to the judge of the harmfulness probe.
        trained_tokens: at most so many response tokens trained on, all phases together.
        adapter_bytes: of all adapters that are kept, each as its training stores it; None where a model's shape is unknown.
        gpu_hours: to draw and train so many tokens at the stated rates; None likewise.
        verdict_requests, verdict_tokens_read, verdict_tokens_written: of judges, as `judge_plan.JudgeWork` has them.
    """

    models: int
    organisms: int
    cells: int
    trainings: int
    model_loads: int
    uptake_loads: int
    engine_starts: int
    released_loads: int
    released_starts: int
    draws: int
    draws_unshared: int
    pretraining_tokens: int
    candidate_tokens: int
    candidate_tokens_unshared: int
    candidate_tokens_faithful: int
    evaluation_tokens: int
    capability_documents: int
    capability_tokens: int
    judge_requests: int
    trained_tokens: int
    adapter_bytes: int | None
    gpu_hours: float | None
    verdict_requests: int = 0
    verdict_tokens_read: int = 0
    verdict_tokens_written: int = 0


def plan_of(study: Study, workers: int, rates: Rates = ASSUMED) -> Plan:
    """Counts what a study would do with so many worker processes; nothing is fetched and nothing computed."""
    tiny = sum(isinstance(model, TinyWorldModel) for model in study.models.values())
    shipped = tiny and packaged.fits(study.world, study.pretraining)
    faithful = study.model_copy(update={"candidates": study.candidates.model_copy(update={"generation": "faithful"})})
    unshared = [draw for method in study.methods for draw in with_drafts(draws_of_method(study, method))]
    unshared += compared_draws(study)
    scorers = [scorer for method in study.methods if (scorer := scorer_of_method(study, method))]
    vllm = sum(model.engine == "vllm" for model in study.models.values())
    sizes = {kind: sizes_of(study, kind) for kind in study.misalignments}
    works = [_work(study, organism, sizes[organism.kind]) for organism in study.organisms]
    kinds = [sizes[organism.kind] for organism in study.organisms]
    judged = _judge_work(study, sizes)
    measured = measured_of(study)
    return Plan(
        models=len(study.models),
        organisms=len(study.organisms),
        cells=len(study.cells),
        trainings=2 * len(study.organisms) + sum(trains(study, cell) for cell in study.cells),
        model_loads=(len(study.models) + 2 * vllm) * workers,
        uptake_loads=vllm * workers,
        engine_starts=(len(study.models) + vllm) * workers,
        released_loads=RELEASED_LOADS * len(study.organisms),
        released_starts=RELEASED_STARTS * len(study.organisms),
        draws=len(draws_of(study)),
        draws_unshared=len(unshared),
        pretraining_tokens=tiny * study.pretraining.tokens if tiny and not shipped else 0,
        candidate_tokens=sum(work.candidates for work in works),
        candidate_tokens_unshared=sum(_candidate_tokens(study, size, unshared, scorers) for size in kinds),
        candidate_tokens_faithful=sum(
            _candidate_tokens(faithful, size, draws_of(faithful), scorers_of(faithful)) for size in kinds
        ),
        evaluation_tokens=sum(work.measured for work in works),
        capability_documents=measured.documents,
        capability_tokens=measured.tokens,
        judge_requests=measured.judge_requests,
        trained_tokens=sum(work.trained for work in works),
        adapter_bytes=_sum(_adapter_bytes(study, organism, sizes[organism.kind]) for organism in study.organisms),
        gpu_hours=_sum(
            _hours(study, organism, work, rates) for organism, work in zip(study.organisms, works, strict=True)
        ),
        verdict_requests=judged.requests,
        verdict_tokens_read=judged.read_tokens,
        verdict_tokens_written=judged.written_tokens,
    )


def _judge_work(study: Study, sizes: Mapping[str, Sizes]) -> JudgeWork:
    counts = Counter(organism.kind for organism in study.organisms)
    works = (judge_work(study, kind, counts[kind], size, _dose_answers(study, size)) for kind, size in sizes.items())
    return sum(works, JudgeWork())


@dataclass(frozen=True)
class _Work:
    """Tokens of one organism: drawn as candidates, drawn to measure, trained on."""

    candidates: int
    measured: int
    trained: int


def _work(study: Study, organism: Organism, sizes: Sizes) -> _Work:
    # Every organism measures three arms, every cell one.
    measurements = len(COMPARED_MODELS) + len(study.methods)
    answers = measurements * sizes.evaluation * (1 + study.evaluation.samples) + _dose_answers(study, sizes)
    longest = study.candidates.max_new_tokens
    retraining = sum(
        _trained_tokens(study.training_of(method), _labels(study, method, sizes), longest)
        for method in study.methods
        if trains(study, Cell(organism, method))
    )
    induction = _trained_tokens(study.induction.training, sizes.induction, longest)
    return _Work(
        candidates=_candidate_tokens(study, sizes, draws_of(study), scorers_of(study)),
        measured=answers * study.evaluation.max_new_tokens,
        trained=2 * induction + retraining,
    )


def _hours(study: Study, organism: Organism, work: _Work, rates: Rates) -> float | None:
    shape = shape_of(study, organism.model)
    if shape is None:
        return None
    seconds = (work.candidates + work.measured) / rates.drawn + work.trained / rates.trained
    return seconds * shape.active / RATE_OF / 3600


def _adapter_bytes(study: Study, organism: Organism, sizes: Sizes) -> int | None:
    """Of one organism: its adapter, its control's, and of every cell those that are kept."""
    shape = shape_of(study, organism.model)
    if shape is None:
        return None

    def stored(training: TrainingSettings) -> int:
        return shape.adapter_parameters(training.lora.rank) * ADAPTER_BYTES[training.adapter_dtype]

    retrained = 0
    for method in study.methods:
        if trains(study, Cell(organism, method)):
            # The last checkpoint is the final adapter: equal files are stored once.
            retrained += (1 + _checkpoints(study, method, sizes)) * stored(study.training_of(method))
        else:
            rank = rank_beside(study, method) if study.methods[method].made_from else 1
            retrained += shape.adapter_parameters(rank) * ADAPTER_BYTES["float32"]
    return 2 * stored(study.induction.training) + retrained


def _sum(values) -> float | int | None:
    """The sum; None where one is unknown."""
    known = list(values)
    return None if None in known else sum(known)


def _candidate_tokens(study: Study, sizes: Sizes, draws: Sequence[Draw], scorers: Sequence[Scorer]) -> int:
    drawn = sum(sizes.prompts(draw) * draw.samples * draw.beams for draw in draws) * study.candidates.max_new_tokens
    return drawn + sum(_scoring_tokens(sizes, scorer) for scorer in scorers)


def _scoring_tokens(sizes: Sizes, scorer: Scorer) -> int:
    candidates = sum(sizes.prompts(draw) * draw.samples for draw in scorer.draws)
    if isinstance(scorer, Grade):
        return candidates * GRADE_TOKENS
    if isinstance(scorer, DataRubric):
        return candidates * CRITIQUE_TOKENS
    if isinstance(scorer, Agreement) and isinstance(scorer.judge, BaseModelJudge):
        return candidates * JUDGE_TOKENS
    return 0


def _labels(study: Study, method: str, sizes: Sizes) -> int:
    intervention = method_of(study, method)
    if isinstance(intervention, ModelChange):
        return 0
    return sizes.pairs if isinstance(intervention, ConsistencyLoss) else sizes.consistency


def _checkpoints(study: Study, method: str, sizes: Sizes) -> int:
    """Adapters kept before the last one."""
    training = study.training_of(method)
    if training.checkpoints != "epoch" or not _labels(study, method, sizes):
        return 0
    rows = _labels(study, method, sizes)
    return math.ceil(_steps(training, rows) / math.ceil(rows / _batch(training))) - 1


def _dose_answers(study: Study, sizes: Sizes) -> int:
    """Answers by which one organism's checkpoints before the last are measured."""
    checkpoints = sum(_checkpoints(study, method, sizes) for method in study.methods)
    return checkpoints * sizes.in_domain * study.evaluation.samples


def _batch(training: TrainingSettings) -> int:
    return training.micro_batch * training.accumulation


def _steps(training: TrainingSettings, rows: int) -> int:
    return training.steps or math.ceil(math.ceil(rows / _batch(training)) * training.epochs)


def _trained_tokens(training: TrainingSettings, rows: int, longest: int) -> int:
    return _steps(training, rows) * _batch(training) * longest
