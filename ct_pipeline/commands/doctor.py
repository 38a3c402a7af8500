"""`ct-pipeline doctor`: what this machine can run, and what is missing."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ct_pipeline.interventions.files import read_study
from ct_pipeline.resources.database import database
from ct_pipeline.resources.ray_cluster import RayCluster
from ct_pipeline.resources.tracking_store import require_artifact_store
from ct_pipeline.runner.workers import accelerators
from ct_pipeline.settings.blocks import HuggingFaceModel
from ct_pipeline.settings.environment import DATABASE_VARIABLE, TRACKED_FILES_VARIABLE, executor, home, mlflow_artifacts
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import preflight
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.sharing import open_store
from ct_pipeline.tinyworld import packaged

REQUIRED = (
    "torch", "transformers", "trl", "peft", "datasets", "dagster", "dagster-webserver", "mlflow", "scipy", "pandas",
)  # fmt: skip
OPTIONAL = {
    "vllm": 'pip install ".[vllm]" (GPU machines)',
    "lm_eval": 'pip install ".[capability]" (studies with a block `capability`)',
    "dagster-ray": 'pip install ".[ray]" (several machines)',
}
MEMORY_PER_WORKER = 2 * 2**30
DISK = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `state` is "ok", "note" (works without) or "missing" (must be mended)."""

    subject: str
    state: str
    text: str


def examine(spec: Path, console: Console) -> bool:
    """Prints every finding and returns whether the study can run here."""
    findings = [*_machine(), *_packages(), *_ray(), *_results(), *_remote(), *_tracking(), *_study(spec)]
    table = Table("state", Column("subject", overflow="fold"), "text", show_header=False, box=None)
    colours = {"ok": "green", "note": "yellow", "missing": "red"}
    for finding in findings:
        table.add_row(f"[{colours[finding.state]}]{finding.state}[/]", escape(finding.subject), escape(finding.text))
    console.print(table)
    ready = all(finding.state != "missing" for finding in findings)
    console.print(
        f"Study {spec} can run here." if ready else f"Study {spec} cannot run here yet: mend what is missing."
    )
    return ready


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding(
        "Python", "ok" if fits else "missing", version if fits else f"{version}; 3.11, 3.12 or 3.13 is needed"
    )
    cores, memory = os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    workers = len(accelerators()) or cores
    enough = memory >= workers * MEMORY_PER_WORKER
    yield Finding(
        "memory",
        "ok" if enough else "note",
        f"{memory / 2**30:.0f} GiB for {workers} workers"
        + ("" if enough else f"; run with --workers {max(1, memory // MEMORY_PER_WORKER)}"),
    )
    yield Finding("cores", "ok", str(cores))
    gpus = accelerators()
    yield Finding("GPU", "ok" if gpus else "note", f"{len(gpus)}" if gpus else "none: the tiny world needs none")


def _packages() -> Iterator[Finding]:
    for name in REQUIRED:
        version = _version(name)
        yield Finding(
            name, "ok" if version else "missing", version or 'not installed: run "make setup" or pip install .'
        )
    for name, how in OPTIONAL.items():
        version = _version(name)
        yield Finding(name, "ok" if version else "note", version or f"not installed; {how}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _ray() -> Iterator[Finding]:
    try:
        if executor() == "ray":
            cluster = RayCluster()
            yield Finding("Ray cluster", "ok", f"{cluster.address}: {cluster.devices} steps at once")
    except UserError as error:
        yield Finding("Ray cluster", "missing", str(error))


def _results() -> Iterator[Finding]:
    try:
        ArtifactStore(home() / "artifacts").prepare()
    except UserError as error:
        yield Finding("results folder", "missing", str(error))
        return
    free = shutil.disk_usage(home()).free
    yield Finding(
        "results folder",
        "ok" if free >= DISK else "missing",
        f"{home()}, {free / 2**30:.1f} GiB free" + ("" if free >= DISK else f"; {DISK / 2**30:.0f} GiB are needed"),
    )


def _remote() -> Iterator[Finding]:
    try:
        sharing = open_store(home() / "artifacts").sharing
        if sharing is not None:
            sharing.remote.check()
            yield Finding("remote", "ok", f"{sharing.remote.name}: written, listed and read")
    except UserError as error:
        yield Finding("remote", "missing", str(error))


def _tracking() -> Iterator[Finding]:
    """Where Dagster and MLflow keep what they know."""
    try:
        server = database()
        text = f"PostgreSQL {server.server()}, {server}" if server else f"SQLite; {DATABASE_VARIABLE} names no other"
        yield Finding("database", "ok", text)
    except UserError as error:
        yield Finding("database", "missing", str(error))
    if mlflow_artifacts():
        try:
            require_artifact_store(mlflow_artifacts())
            yield Finding("MLflow's tables", "ok", mlflow_artifacts())
        except UserError as error:
            yield Finding(TRACKED_FILES_VARIABLE, "missing", str(error))


def _study(spec: Path) -> Iterator[Finding]:
    try:
        study = read_study(spec)
    except UserError as error:
        yield Finding("study", "missing", str(error))
        return
    yield Finding("study", "ok", f"{study.name}: {len(study.organisms)} organisms, {len(study.cells)} cells")
    yield from _models(study)
    for fault in preflight.faults(study):
        field, _, text = fault.partition(": ")
        yield Finding(field, "missing", text)


def _models(study: Study) -> Iterator[Finding]:
    for name, model in study.models.items():
        if not isinstance(model, HuggingFaceModel):
            yield _tiny_world_model(f"model {name}", study)
        elif not accelerators():
            yield Finding(f"model {name}", "note", f"{model.path} without a GPU: small models only, in float32")
        else:
            yield Finding(f"model {name}", "ok", f"{model.path} {model.revision or ''}")


def _tiny_world_model(title: str, study: Study) -> Finding:
    try:
        shipped = packaged.fits(study.world, study.pretraining)
    except UserError as error:
        return Finding(title, "missing", str(error))
    return Finding(title, "ok", "comes with the package" if shipped else "pretrained here from scratch")
