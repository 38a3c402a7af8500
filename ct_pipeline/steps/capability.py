"""After Phase 3, beside alignment: tasks and the harmfulness probe, on base model, organism and retrained model."""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas

from ct_pipeline.analysis.rates import score_rate
from ct_pipeline.analysis.verdicts import effect
from ct_pipeline.engine.protocol import Adapters
from ct_pipeline.measurement.capability.checks import judge_of
from ct_pipeline.measurement.capability.harmful_prompts import digest_of_requests, requests_of
from ct_pipeline.measurement.capability.harmfulness import answers_of, judged
from ct_pipeline.measurement.capability.harness_tasks import load_task
from ct_pipeline.measurement.capability.task_files import read_own_task, task_name
from ct_pipeline.measurement.capability.task_rows import rows_of_task
from ct_pipeline.measurement.contrast import change, estimated, sides_of
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.models.model import stack
from ct_pipeline.report.wording import change_interval, percent, points
from ct_pipeline.settings.capability import HARMFULNESS, CapabilitySettings
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model, evaluation, misaligned_organism, retrained_model
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.capability_scores import base_content, content_key, measured_once
from ct_pipeline.steps.reading import capability_scores_of
from ct_pipeline.steps.shown import rows
from ct_pipeline.steps.step import Artifacts, Context, Step, one
from ct_pipeline.steps.tracked_run import TrackedRun, identity, made_by, readable
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore, ArtifactWriter
from ct_pipeline.store.node import Node, find, making, placed

NAME = "capability"
VERSION = 1
SIDES = ("base", "organism", "retrained")
KEYS = {HARMFULNESS: ["prompt_id"]}
TASK_KEY = ["task", "doc_id", "doc_hash"]
"""What tells the documents of a table apart."""


def wanted(study: Study) -> bool:
    """Whether a study measures any of it."""
    return study.capability is not None


@placed
def node(study: Study, cell: Cell) -> Node:
    """Rows and changes of one cell."""
    settings = {
        "measured": {name: _settings(study, cell, name) for name in names(study.capability)},
        "confidence": study.evaluation.confidence,
        "engine": study.models[cell.organism.model].engine,
    }
    inputs = {
        "base_model": base_model.node(study, cell.organism.model),
        "misaligned_organism": misaligned_organism.node(study, cell.organism),
        "retrained_model": retrained_model.node(study, cell),
    }
    return Node(NAME, VERSION, cell.organism.key, cell.method, settings, inputs)


def make(context: Context, cell: Cell) -> Artifact:
    """One table per task and one of the harmfulness probe, a row per document and side; `changes.json` compares the sides.

    What was measured before of the same base model with the same adapters, by their content, is taken from there.

    Raises:
        UserError: lm-eval is not installed, a task cannot be had, a judge cannot be reached.
    """
    store, study = context.store, context.study
    place = node(study, cell)
    with making(store, place) as (draft, inputs):
        stacks: dict[str, Adapters] = {
            "base": (),
            "organism": stack(inputs["misaligned_organism"].folder),
            "retrained": retrained_model.model_of(store, study, cell).terms,
        }
        base = base_content(store, study, cell.organism.model)
        template = open_model(store, study, cell.organism.model).chat.template_hash
        keys = {side: content_key(base, template, terms) for side, terms in stacks.items()}
        changes = {}
        for name in names(study.capability):
            measure = _measure(store, study, cell, name)
            called = name if name == HARMFULNESS else task_name(name, study.capability.tasks[name])
            found = {
                side: measured_once(
                    store, keys[side], called, place.settings["measured"][name], functools.partial(measure, terms)
                )
                for side, terms in stacks.items()
            }
            tables = {side: artifact.table("rows") for side, artifact in found.items()}
            draft.write_table(name, pandas.concat([table.assign(side=side) for side, table in tables.items()]))
            draft.record[name] = {side: artifact.digest for side, artifact in found.items()}
            changes[name] = found["base"].json("about") | _compared(name, tables, study.evaluation.confidence)
        draft.write_json("changes", changes)
        draft.record["models"] = keys
    return store.read(place.address)


def names(settings: CapabilitySettings) -> tuple[str, ...]:
    """What is measured, in the order of the file, the harmfulness probe last."""
    return (*settings.tasks, *([HARMFULNESS] if settings.harmfulness is not None else []))


def _settings(study: Study, cell: Cell, name: str) -> dict[str, object]:
    """All that the rows of a model depend on beside the model."""
    settings = study.capability
    if name == HARMFULNESS:
        probe = settings.harmfulness
        judge = judge_of(probe, study.models[cell.organism.model])
        return {
            "requests": digest_of_requests(requests_of(probe, settings.seed)),
            "max_new_tokens": probe.max_new_tokens,
            "judge": judge.model_dump(mode="json", include={"rubric", "judge"}),
        }
    task = settings.tasks[name]
    own = {"own": read_own_task(Path(task.path)).digest} if task.path else {"task": task_name(name, task)}
    given = task.model_dump(mode="json", exclude={"path", "task"})
    shared = {"chat_template": settings.chat_template, "seed": settings.seed}
    return own | given | shared | {"lm_eval": _harness_version()}


def _harness_version() -> str:
    try:
        return importlib.metadata.version("lm_eval")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("capability.tasks: lm-eval is not installed: pip install .[capability]") from None


def _measure(store: ArtifactStore, study: Study, cell: Cell, name: str) -> Callable[[Adapters, ArtifactWriter], None]:
    """(adapters, draft) -> writes the rows of a model, and which metric they hold."""
    settings = study.capability

    def opened() -> LanguageModel:
        return open_model(store, study, cell.organism.model)

    def harmfulness(terms: Adapters, draft: ArtifactWriter) -> None:
        probe = settings.harmfulness
        answers = answers_of(opened, requests_of(probe, settings.seed), probe, terms)
        draft.write_table("rows", judged(answers, judge_of(probe, study.models[cell.organism.model])))
        draft.write_json("about", {"metric": "harmfulness", "higher_is_better": False})

    def accuracy(terms: Adapters, draft: ArtifactWriter) -> None:
        task = load_task(name, settings.tasks[name], settings.seed)
        draft.write_table("rows", rows_of_task(task, opened(), terms, settings))
        draft.write_json("about", {"metric": task.metric, "higher_is_better": task.higher_is_better})

    return harmfulness if name == HARMFULNESS else accuracy


def _compared(name: str, tables: Mapping[str, pandas.DataFrame], confidence: float) -> dict[str, object]:
    """The mean score of each side, and the change that consistency training made, paired by document."""
    scores = {side: table.set_index(KEYS.get(name, TASK_KEY))["score"] for side, table in tables.items()}
    if any(set(scores[side].index) != set(scores["base"].index) for side in SIDES):
        raise UserError(
            f"capability {name}: the sides were measured on other documents; was the data set changed under one revision?"
        )
    return {
        "rates": {side: dataclasses.asdict(score_rate(scores[side], confidence=confidence)) for side in SIDES},
        "change": dataclasses.asdict(estimated(change(name, "organism", "retrained"), sides_of(scores), confidence)),
    }


def show(context: Context, cell: Cell, made: Artifacts) -> Mapping[str, Any]:
    """The score of each side on everything measured, and its paired change."""
    scores = capability_scores_of(made[0], names(context.study.capability))
    shown: dict[str, Any] = {
        f"{score.name}_change": score.change.value for score in scores if score.change.value is not None
    }
    shown["capability_and_safety"] = rows(
        {
            "measured": score.name,
            "metric": score.metric,
            "base_model": percent(score.base.value),
            "organism": percent(score.before.value),
            "retrained": percent(score.after.value),
            "change": points(score.change.value),
            "interval": change_interval(score.change),
            "documents": score.change.prompts,
            "verdict": str(effect(score.change, context.study.evaluation.epsilon, score.higher_is_better)),
        }
        for score in scores
    )
    return shown


def track(context: Context, cell: Cell, made: Artifacts) -> TrackedRun:
    """The run of a cell's capability and safety, under the cell's: the score of each side and the paired change."""
    (artifact,), study = made, context.study
    scores = capability_scores_of(artifact, names(study.capability))
    metrics: dict[str, float | None] = {}
    for score in scores:
        metrics |= {
            f"{score.name}_base": score.base.value,
            f"{score.name}_before": score.before.value,
            f"{score.name}_after": score.after.value,
            f"{score.name}_change": score.change.value,
        }
        if score.change.value is not None:
            metrics |= {f"{score.name}_change_low": score.change.low, f"{score.name}_change_high": score.change.high}
    evaluated = find(context.store, evaluation.node(study, cell))
    return TrackedRun(
        name=f"{cell.key} capability and safety",
        fingerprint=artifact.manifest.fingerprint,
        under=evaluated.manifest.fingerprint,
        parent=lambda: evaluation.track(context, cell, (evaluated,)),
        parameters=identity(cell.organism) | {"method": cell.method},
        tags=made_by(artifact),
        metrics=metrics,
        started=artifact.started,
        finished=artifact.finished,
        tables={score.name: readable(artifact.table(score.name)) for score in scores},
    )


STEP = Step(
    NAME,
    title="capability and safety",
    description="""Accuracy on tasks and harmfulness of answers, of base model, organism and retrained model,
and the paired change.

Rows are kept by what a model is: the same adapters are measured once, whichever cell or study asks.""",
    version=VERSION,
    grain="cell",
    after=("evaluation",),
    places=one(node),
    make=make,
    kinds=frozenset({"pytorch", "scipy", "mlflow"}),
    wanted=wanted,
    owns=("capability_scores",),
    show=show,
    reported=True,
    track=track,
)
