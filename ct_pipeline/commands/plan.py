"""`ct-pipeline plan`: prints what a study would do."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ct_pipeline.commands.power import PowerOptions, print_power
from ct_pipeline.interventions.files import read_study
from ct_pipeline.planning.plan import ASSUMED, RATE_OF, Plan, Rates, plan_of
from ct_pipeline.runner.workers import accelerators
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import STUDY_STEPS
from ct_pipeline.steps.step import Step
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import remembered_places
from ct_pipeline.store.sharing import open_store

WORDS = {
    "models": "base models",
    "organisms": "organisms (models x misalignments x seeds)",
    "cells": "cells (organisms x methods)",
    "trainings": "adapters to train",
    "training_loads": "base-model loads",
    "uptake_loads": "base-model loads to measure the uptake",
    "engine_starts": "engine starts",
    "draws": "distinct draws per organism",
    "draws_unshared": "draws per organism if each method drew its own",
    "pretraining_tokens": "pretraining tokens",
    "candidate_tokens": "candidate tokens, at most",
    "candidate_tokens_unshared": "candidate tokens if each method drew its own, as many",
    "candidate_tokens_faithful": "candidate tokens in faithful mode (each method its own, as published)",
    "evaluation_tokens": "evaluation tokens, at most",
    "trained_tokens": "response tokens trained on, at most",
}
CAPABILITY = {
    "capability_documents": "documents of capability and safety, every model once",
    "capability_tokens": "tokens for them, if a document takes 1,000",
    "judge_requests": "requests to the harmfulness judge",
}
JUDGED = {
    "verdict_requests": "requests to judges for verdicts, at most",
    "verdict_tokens_read": "tokens that they read beside the requests' own texts, at most",
    "verdict_tokens_written": "tokens that they write, at most",
}
UNKNOWN = "unknown: the shape of a model is not known here"


@remembered_places()
def print_plan(
    spec: Path,
    only: Sequence[str],
    seeds: int | None,
    console: Console,
    power: PowerOptions | None = None,
    workers: int = 0,
    rates: Rates = ASSUMED,
) -> None:
    """Prints the study's size and how much of it is finished already; with `power`, what it can find instead.

    `workers` is 0 for one per GPU, or per core where there is none.
    """
    study = narrowed(read_study(spec), only, seeds)
    store = open_store(home() / "artifacts")
    if power is not None:
        print_power(store, study, power, console)
        return
    workers = workers or len(accelerators()) or os.cpu_count() or 1
    console.print(_sizes(study, plan_of(study, workers, rates), workers, rates))
    done = Table(title="Finished already", title_justify="left", show_header=False)
    for stage in STUDY_STEPS:
        if stage.wanted(study):
            done.add_row(stage.title, _finished(store, study, stage))
    console.print(done)


def _sizes(study: Study, plan: Plan, workers: int, rates: Rates) -> Table:
    size = dataclasses.asdict(plan) | {"training_loads": plan.model_loads - plan.uptake_loads}
    released = {"training_loads": plan.released_loads, "engine_starts": plan.released_starts, "uptake_loads": 0}
    table = Table(title=f"Study {study.name}, {workers} worker process{'es' * (workers > 1)}", title_justify="left")
    table.add_column("")
    table.add_column("here", justify="right")
    table.add_column("released code", justify="right")
    for name, words in WORDS.items():
        table.add_row(words, f"{size[name]:,}", f"{released[name]:,}" if name in released else "")
    parts = (CAPABILITY if plan.capability_documents else {}) | (JUDGED if plan.verdict_requests else {})
    for name, words in parts.items():
        table.add_row(words, f"{size[name]:,}", "")
    saved = plan.candidate_tokens_unshared - plan.candidate_tokens
    table.add_row("candidate tokens saved by sharing draws", f"{saved:,}", "")
    table.add_row("adapters kept", UNKNOWN if plan.adapter_bytes is None else bytes_text(plan.adapter_bytes), "")
    table.add_row(
        f"GPU-hours, if a model of {RATE_OF / 1e9:.0f}B draws {rates.drawn:,.0f} and trains {rates.trained:,.0f} tokens/s",
        UNKNOWN if plan.gpu_hours is None else f"{plan.gpu_hours:,.2f}",
        "",
    )
    return table


def bytes_text(count: float) -> str:
    """A number of bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _finished(store: ArtifactStore, study: Study, step: Step) -> str:
    keys = step.keys(study)
    try:
        finished = sum(step.find(store, study, key) is not None for key in keys)
    except UserError as error:
        return f"0 of {len(keys)}: {str(error).splitlines()[0]}"
    return f"{finished} of {len(keys)}"
