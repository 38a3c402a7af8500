"""What a report is made from, read from the artifacts of a study that are there."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import pandas

from ct_pipeline.analysis.gate import Gate
from ct_pipeline.analysis.outcomes import outcomes
from ct_pipeline.analysis.paired import Difference, DifferenceOfDifferences
from ct_pipeline.analysis.rates import Rate, rate
from ct_pipeline.measurement.asking import direct_accuracy, risk
from ct_pipeline.measurement.condition import View
from ct_pipeline.measurement.contrast import CHANGE_OF_GAP
from ct_pipeline.measurement.organism_rows import misalignment_of
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.records.arms import arms_of
from ct_pipeline.records.judging import judging_of, labels_with_verdicts
from ct_pipeline.records.planted import recovered
from ct_pipeline.report.records import (
    VIEWS,
    ArmRates,
    BaseModelRecord,
    CapabilityScore,
    CellRecord,
    ContrastRecord,
    ExampleRow,
    LabelSummary,
    OrganismRecord,
    StudyRecord,
    TrainingSummary,
    TypeScore,
    Uptake,
)
from ct_pipeline.settings.blocks import TinyWorldModel
from ct_pipeline.settings.fingerprint import plain
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import (
    base_model,
    capability,
    consistency_labels,
    distribution_shift,
    evaluation,
    organism_evaluation,
    retrained_model,
    uptake,
)
from ct_pipeline.steps.catalog import STUDY_STEPS, Key, admitted, step_named
from ct_pipeline.steps.reading import capability_scores_of, doses_of, method_record, shift_of
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, StoreSnapshot, find, remembered_places
from ct_pipeline.store.typed import typed


def place_of(look: StoreSnapshot, study: Study, stage: str, key: Key) -> Node:
    """The node of a stage that makes one artifact per key."""
    (place,) = step_named(stage).places(study, key)
    return place


def found_of(look: StoreSnapshot, study: Study, stage: str, key: Key) -> Artifact | None:
    """The artifact of such a stage; None where it is missing, or the key has none."""
    return find(look, place_of(look, study, stage, key)) if step_named(stage).applies(study, key) else None


def finished(look: StoreSnapshot, study: Study) -> tuple[list[Organism], list[Cell]]:
    """What a report covers: the measured organisms, and the evaluated cells of those that may be used."""
    organisms = [o for o in study.organisms if find(look, place_of(look, study, organism_evaluation.NAME, o))]
    cells = [
        cell
        for cell in admitted(look, study, evaluation.STEP)
        if find(look, place_of(look, study, evaluation.NAME, cell))
    ]
    return organisms, cells


@remembered_places()
def study_record(store: ArtifactStore, study: Study) -> StudyRecord:
    """All that a report says, read from the artifacts of the study that are there."""
    look = StoreSnapshot(store)
    organisms, cells = finished(look, study)
    models = [model for model in study.models if find(look, base_model.node(study, model)) is not None]
    keys = {"model": models, "organism": organisms, "cell": cells}
    made = {
        stage.name: [
            one
            for key in keys[stage.grain]
            if stage.applies(study, key)
            for one in _made(look, stage.places(study, key))
        ]
        for stage in STUDY_STEPS
        if stage.wanted(study)
    }
    every = [artifact for artifacts in made.values() for artifact in artifacts]
    newest = max(every, key=lambda artifact: artifact.finished)
    return StudyRecord(
        name=study.name,
        description=study.description,
        started=min(artifact.started for artifact in every).isoformat(timespec="seconds"),
        finished=newest.finished.isoformat(timespec="seconds"),
        wall_seconds=_working_seconds(every),
        stage_seconds={name: sum(artifact.seconds for artifact in artifacts) for name, artifacts in made.items()},
        machine=newest.manifest.provenance["machine"],
        versions=newest.manifest.provenance["versions"],
        commit=newest.manifest.provenance["commit"],
        dirty=newest.manifest.provenance["dirty"],
        settings=plain(study),
        fingerprints={f"base model {model}": base_model.node(study, model).fingerprint for model in models},
        confidence=study.evaluation.confidence,
        epsilon=study.evaluation.epsilon,
        base_models=tuple(_base_model(look, study, model) for model in models),
        methods=tuple(method_record(study, name) for name in study.methods),
        organisms=tuple(_organism(look, study, organism) for organism in organisms),
        cells=tuple(_cell(look, study, cell) for cell in cells),
        tables={},
        planted=recovered(look, study),
        judging=judging_of(look, study, organisms, cells),
    )


def _made(look: StoreSnapshot, places: Sequence[Node]) -> list[Artifact]:
    """The artifacts of some nodes, none where one is missing."""
    found = [find(look, place) for place in places]
    return [] if any(one is None for one in found) else found


def _base_model(look: StoreSnapshot, study: Study, model: str) -> BaseModelRecord:
    artifact = find(look, base_model.node(study, model))
    record = artifact.record
    tiny = isinstance(study.models[model], TinyWorldModel)
    return BaseModelRecord(
        name=model,
        source=study.models[model].source,
        parameters=record.get("parameters"),
        direct_accuracy=_share(record["direct_accuracy"], record["direct_questions"]) if tiny else None,
        pretraining_seconds=record.get("seconds"),
        pretraining_tokens=record.get("tokens"),
    )


def _share(value: float, questions: int) -> Rate:
    right = round(value * questions)
    return rate([True] * right + [False] * (questions - right))


def _organism(look: StoreSnapshot, study: Study, organism: Organism) -> OrganismRecord:
    artifact = find(look, place_of(look, study, organism_evaluation.NAME, organism))
    kind = misalignment_of(study, organism.kind)
    tables = {arm: artifact.table(arm) for arm in organism_evaluation.COMPARED_MODELS}
    return OrganismRecord(
        key=organism.key,
        model=organism.model,
        kind=organism.kind,
        title=kind.title,
        misbehaviour=kind.misbehaviour,
        seed=organism.seed,
        rates={
            view: ArmRates(**{arm: risk(table, view, study.evaluation.confidence) for arm, table in tables.items()})
            for view in VIEWS
        },
        direct_accuracy=ArmRates(**{arm: direct_accuracy(table) for arm, table in tables.items()}),
        gate=typed(Gate, artifact.json("gate")),
        used=organism_evaluation.usable(study, artifact),
        outcomes={arm: outcomes(risk_rows(table)) for arm, table in tables.items()},
    )


def _cell(look: StoreSnapshot, study: Study, cell: Cell) -> CellRecord:
    stages = (consistency_labels, retrained_model, evaluation)
    artifacts = [found_of(look, study, stage.NAME, cell) for stage in stages]
    labels, training, measured = artifacts
    changes = measured.json("changes")
    moved = found_of(look, study, uptake.NAME, cell)
    return CellRecord(
        organism=cell.organism.key,
        model=cell.organism.model,
        kind=cell.organism.kind,
        method=cell.method,
        seed=cell.organism.seed,
        differences={view: typed(Difference, changes["changes"][view.name]) for view in VIEWS},
        direct_before=typed(Rate, changes["direct_accuracy_before"]),
        direct_after=typed(Rate, changes["direct_accuracy_after"]),
        null_rate=changes["null_rate"],
        labels=labels and _labels(labels, labels_with_verdicts(look, study, cell, labels.table("labels"))),
        training=_training(training) if retrained_model.trains(study, cell) else None,
        examples=typed(tuple[ExampleRow, ...], measured.json("examples")),
        seconds=sum(artifact.seconds for artifact in artifacts if artifact is not None),
        mlflow_url=None,
        shift=shift_of(found_of(look, study, distribution_shift.NAME, cell)),
        doses=doses_of(measured),
        arms=arms_of(look, study, cell.organism, cell.method),
        uptake=None if moved is None else typed(Uptake, moved.json("uptake")),
        type_scores=_type_scores(measured),
        capability=capability_of(look, study, cell),
        contrasts=_contrasts(changes),
        outcomes={View(*name.split("/")): found for name, found in evaluation.outcomes_of(measured).items()},
        by_prompt={View(*name.split("/")): found for name, found in measured.json("by_prompt").items()},
    )


def _contrasts(changes: Mapping[str, dict]) -> tuple[ContrastRecord, ...]:
    """The contrasts of a study's conditions; () where it names none."""
    return tuple(
        ContrastRecord(
            name,
            one["title"],
            one["kind"],
            View(*one["view"].split("/")),
            typed(DifferenceOfDifferences if one["kind"] == CHANGE_OF_GAP else Difference, one["difference"]),
        )
        for name, one in changes.get("contrasts", {}).items()
    )


def _type_scores(evaluated: Artifact) -> tuple[TypeScore, ...]:
    """The scores by type of published data, a mean over types after those of each decoding; () for other data."""
    if "type_scores.json" not in evaluated.manifest.files:
        return ()
    found = []
    for decoding, scores in evaluated.json("type_scores").items():
        for one in (*scores["types"], {**scores, "type": "mean over types", "prompts": None}):
            sides = {
                f"{scoring}_{side}": one[scoring][side]
                for scoring in ("corrected", "published")
                for side in ("before", "after")
            }
            change = one["corrected"] if "value" in one["corrected"] else None
            found.append(typed(TypeScore, {**one, **sides, "decoding": decoding, "change": change}))
    return tuple(found)


def _training(artifact: Artifact) -> TrainingSummary:
    losses = artifact.record["losses"]
    return typed(TrainingSummary, artifact.record | {"first_loss": losses[0], "last_loss": losses[-1]})


def _labels(artifact: Artifact, table: pandas.DataFrame) -> LabelSummary:
    kept = table[table["labelled"]]
    probes = table[table["probe"]]
    return LabelSummary(
        kept=len(kept),
        prompts=artifact.record["prompts"],
        misaligned=rate(probes["verdict"], probes["prompt_id"]) if len(probes) else None,
        mean_tokens=float(kept["tokens"].mean()),
        mean_logprob=float(kept["logprob"].mean()),
    )


def _working_seconds(artifacts: Sequence[Artifact]) -> float:
    """Seconds during which at least one of the artifacts was being made: pauses between runs do not count."""
    total, until = 0.0, datetime.min.replace(tzinfo=artifacts[0].started.tzinfo)
    for start, end in sorted((artifact.started, artifact.finished) for artifact in artifacts):
        total += max(0.0, (end - max(start, until)).total_seconds())
        until = max(until, end)
    return total


def capability_of(look: ArtifactStore, study: Study, cell: Cell) -> tuple[CapabilityScore, ...]:
    """What was measured of a cell, in the order of the study; () where nothing was."""
    artifact = find(look, capability.node(study, cell)) if capability.wanted(study) else None
    return () if artifact is None else capability_scores_of(artifact, capability.names(study.capability))
