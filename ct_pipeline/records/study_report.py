"""Stage 8: the report of a study, from stored artifacts alone."""

import shutil
from pathlib import Path

from ct_pipeline.records.study_record import finished, place_of, study_record, usable_cells
from ct_pipeline.report.study import write_report
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import capability, distribution_shift, evaluation, organism_evaluation, uptake
from ct_pipeline.steps.catalog import stage_named
from ct_pipeline.steps.judge_calibration import calibration_nodes
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.disk import disk_errors
from ct_pipeline.store.node import Node, StoreSnapshot, find, making

STAGE = "study_report"
VERSION = 4
REPORTED = {"shift": distribution_shift, "uptake": uptake, "capability": capability}
"""Stages of a cell that a report shows where they are there; without an evaluation a cell is in no report."""


def node(store: ArtifactStore, study: Study) -> Node:
    """The report over all measured organisms and all evaluated cells of those that are used."""
    look = StoreSnapshot(store)
    organisms, cells = finished(look, study)
    inputs = {f"organism {o.key}": place_of(look, study, organism_evaluation.STAGE, o) for o in organisms}
    inputs |= {f"cell {cell.key}": place_of(look, study, evaluation.STAGE, cell) for cell in cells}
    others = {
        f"{name} {cell.key}": place_of(look, study, stage.STAGE, cell)
        for cell in cells
        for name, stage in REPORTED.items()
        if stage_named(stage.STAGE).wanted(study)
    }
    others |= {
        f"calibration {kind} {role}": place
        for kind in dict.fromkeys(organism.kind for organism in organisms)
        for role, place in calibration_nodes(study, kind).items()
    }
    inputs |= {name: place for name, place in others.items() if find(look, place) is not None}
    return Node(STAGE, VERSION, study.name, "-", {"study": study}, inputs)


def is_whole(store: ArtifactStore, study: Study, reported: Study) -> bool:
    """Whether every organism is measured and all of every usable one's cells is there, and that is in the report.

    `study` may be a part of the `reported` one.
    """
    look = StoreSnapshot(store)
    cells = usable_cells(look, study, study.organisms)
    return (
        all(find(look, place_of(look, study, organism_evaluation.STAGE, organism)) for organism in study.organisms)
        and all(
            find(look, place_of(look, study, stage.STAGE, cell))
            for cell in cells
            for stage in (evaluation, *REPORTED.values())
            if stage_named(stage.STAGE).wanted(study)
        )
        and find(look, node(look, reported)) is not None
    )


def make(store: ArtifactStore, study: Study, reports: Path) -> Path:
    """Writes the report where it is not there yet, copies it to `reports`/study name/, and returns its page."""
    look = StoreSnapshot(store)
    place = node(look, study)
    artifact = find(look, place)
    if artifact is None:
        if not place.inputs:
            raise UserError(f"study {study.name}: nothing is measured yet, so there is nothing to report")
        with making(look, place) as (draft, _):
            write_report(study_record(look, study), draft.folder)
        artifact = store.read(place.address)
    with disk_errors(reports):
        return publish(artifact, reports / study.name)


def publish(artifact: Artifact, folder: Path) -> Path:
    """Copies a report's files to where people look for it; the copy is replaced whole."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    for name in artifact.manifest.files:
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.folder / name, fresh / name)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder / "index.html"
