"""`ct-pipeline plan`: prints what a study would do."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ct_pipeline.commands.power import PowerOptions, print_power
from ct_pipeline.stages.catalog import read_study
from ct_pipeline.stages.pipeline import STAGES
from ct_pipeline.stages.plan import plan_of
from ct_pipeline.stages.workers import accelerators
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.study.environment import home
from ct_pipeline.study.narrow import narrowed

WORDS = {
    "models": "base models",
    "organisms": "organisms (models x misalignments x seeds)",
    "cells": "cells (organisms x methods)",
    "trainings": "adapters to train",
    "model_loads": "base-model loads",
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


def print_plan(
    spec: Path, only: Sequence[str], seeds: int | None, console: Console, power: PowerOptions | None = None
) -> None:
    """Prints the study's size and how much of it is finished already; with `power`, what it can find instead."""
    study = narrowed(read_study(spec), only, seeds)
    store = ArtifactStore(home() / "artifacts")
    if power is not None:
        print_power(store, study, power, console)
        return
    workers = len(accelerators()) or os.cpu_count() or 1
    size = dataclasses.asdict(plan_of(study, workers))
    table = Table(title=f"Study {study.name}, {workers} worker processes", title_justify="left", show_header=False)
    for name, words in WORDS.items():
        table.add_row(words, f"{size[name]:,}")
    saved = size["candidate_tokens_unshared"] - size["candidate_tokens"]
    table.add_row("candidate tokens saved by sharing draws", f"{saved:,}")
    console.print(table)
    done = Table(title="Finished already", title_justify="left", show_header=False)
    for stage in STAGES:
        keys = stage.keys(study)
        finished = sum(stage.find(store, study, key) is not None for key in keys)
        done.add_row(stage.title, f"{finished} of {len(keys)}")
    console.print(done)
