"""The report of a study, from stored artifacts alone."""

import shutil
from pathlib import Path

from ct_pipeline.records.study_record import finished, study_record
from ct_pipeline.report.section import Section
from ct_pipeline.report.study import write_report
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import STUDY_STEPS, admitted
from ct_pipeline.steps.judge_calibration import calibration_nodes
from ct_pipeline.steps.step import Context, Step
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.disk import disk_errors
from ct_pipeline.store.node import Node, StoreSnapshot, find, making, remembered_places

NAME = "study_report"
VERSION = 5


def reported(study: Study) -> tuple[Step, ...]:
    """The steps that the report of a study shows; without an evaluation a cell is in no report."""
    return tuple(step for step in STUDY_STEPS if step.reported and step.wanted(study))


@remembered_places()
def node(store: ArtifactStore, study: Study) -> Node:
    """The report over all measured organisms and all evaluated cells of those that are used."""
    look = StoreSnapshot(store)
    keys = dict(zip(("organism", "cell"), finished(look, study), strict=True))
    inputs = {
        f"{step.name} {key.key}": place
        for step in reported(study)
        for key in keys[step.grain]
        if step.applies(study, key)
        for place in step.places(study, key)
    }
    inputs |= {
        f"calibration {kind} {role}": place
        for kind in dict.fromkeys(organism.kind for organism in keys["organism"])
        for role, place in calibration_nodes(study, kind).items()
    }
    made = {name: place for name, place in inputs.items() if find(look, place) is not None}
    return Node(NAME, VERSION, study.name, "-", {"study": study}, made)


@remembered_places()
def is_whole(store: ArtifactStore, study: Study, whole: Study) -> bool:
    """Whether every organism is measured and all of every usable one's cells is there, and that is in the report.

    `study` may be a part of the `whole` one, which is reported.
    """
    look = StoreSnapshot(store)
    return (
        all(
            find(look, place) is not None
            for step in reported(study)
            for key in admitted(look, study, step)
            for place in step.places(study, key)
        )
        and find(look, node(look, whole)) is not None
    )


@remembered_places()
def make(store: ArtifactStore, study: Study, reports: Path) -> Path:
    """Writes the report where it is not there yet, copies it to `reports`/study name/, and returns its page."""
    look = StoreSnapshot(store)
    place = node(look, study)
    artifact = find(look, place)
    if artifact is None:
        if not place.inputs:
            raise UserError(f"study {study.name}: nothing is measured yet, so there is nothing to report")
        with making(look, place) as (draft, _):
            write_report(study_record(look, study), draft.folder, _sections(look, study))
        artifact = store.read(place.address)
    with disk_errors(reports):
        return publish(artifact, reports / study.name)


def _sections(look: StoreSnapshot, study: Study) -> list[Section]:
    """What steps that the report does not know by itself say of what is made."""
    keys = dict(zip(("organism", "cell"), finished(look, study), strict=True))
    sections = []
    for step in reported(study):
        if step.section is not None:
            made = {key: found for key in keys[step.grain] if (found := step.find(look, study, key))}
            sections.append(step.section(Context(look, study), made) if made else None)
    return [section for section in sections if section is not None]


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
