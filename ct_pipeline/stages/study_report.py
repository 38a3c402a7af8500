"""Stage 8: the report of a study, from stored artifacts alone."""

import shutil
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import pandas

from ct_pipeline.analysis.divergence import Part
from ct_pipeline.analysis.gate import Gate
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.prediction import Prediction
from ct_pipeline.analysis.rates import Rate, rate
from ct_pipeline.analysis.term import Term
from ct_pipeline.methods.catalog import method_of
from ct_pipeline.report.records import (
    VIEWS,
    ArmRates,
    BaseModelRecord,
    CellRecord,
    ExampleRow,
    LabelSummary,
    MethodRecord,
    OrganismRecord,
    ShiftSummary,
    StudyRecord,
    TrainingSummary,
)
from ct_pipeline.report.study import write_report
from ct_pipeline.stages import (
    base_model,
    consistency_labels,
    distribution_shift,
    evaluation,
    organism_evaluation,
    retrained_model,
)
from ct_pipeline.stages.cell_results import differing_rows
from ct_pipeline.stages.measurement import direct_accuracy, risk
from ct_pipeline.stages.node import Node, find, making
from ct_pipeline.stages.pipeline import STAGES
from ct_pipeline.stages.rows import kind_named
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore, disk_errors
from ct_pipeline.study.errors import UserError
from ct_pipeline.study.fingerprint import plain
from ct_pipeline.study.keys import Cell, Organism
from ct_pipeline.study.settings import TinyWorldModel
from ct_pipeline.study.spec import Study

STAGE = "study_report"
VERSION = 3
EXAMPLES = 6


def usable_cells(store: ArtifactStore, study: Study, organisms: Iterable[Organism]) -> tuple[Cell, ...]:
    """The cells of the organisms that were measured and passed their gate."""
    cells = []
    for organism in organisms:
        gate = find(store, organism_evaluation.node(study, organism))
        if gate is not None and organism_evaluation.usable(study, gate):
            cells += [Cell(organism, method) for method in study.methods]
    return tuple(cells)


def _finished(store: ArtifactStore, study: Study) -> tuple[list[Organism], list[Cell]]:
    """What a report covers: the measured organisms, and the evaluated cells of those that passed their gate."""
    organisms = [o for o in study.organisms if find(store, organism_evaluation.node(study, o)) is not None]
    cells = [cell for cell in usable_cells(store, study, organisms) if find(store, evaluation.node(study, cell))]
    return organisms, cells


def node(store: ArtifactStore, study: Study) -> Node:
    """The report over all measured organisms and all cells of those that passed their gate."""
    organisms, cells = _finished(store, study)
    inputs = {f"organism {o.key}": organism_evaluation.node(study, o) for o in organisms}
    inputs |= {f"cell {cell.key}": evaluation.node(study, cell) for cell in cells}
    shifts = {f"shift {cell.key}": distribution_shift.node(study, cell) for cell in cells}
    inputs |= {name: place for name, place in shifts.items() if find(store, place) is not None}
    return Node(STAGE, VERSION, study.name, "-", {"study": study}, inputs)


def is_whole(store: ArtifactStore, study: Study, reported: Study) -> bool:
    """Whether every organism is measured and every cell of a usable one evaluated, and that is in the report.

    `study` may be a part of the `reported` one.
    """
    cells = usable_cells(store, study, study.organisms)
    return (
        all(find(store, organism_evaluation.node(study, organism)) for organism in study.organisms)
        and all(find(store, stage.node(study, cell)) for cell in cells for stage in (distribution_shift, evaluation))
        and find(store, node(store, reported)) is not None
    )


def make(store: ArtifactStore, study: Study, reports: Path) -> Path:
    """Writes the report where it is not there yet, copies it to `reports`/study name/, and returns its page."""
    place = node(store, study)
    artifact = find(store, place)
    if artifact is None:
        if not place.inputs:
            raise UserError(f"study {study.name}: nothing is measured yet, so there is nothing to report")
        with making(store, place) as (draft, _):
            write_report(study_record(store, study), draft.folder)
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


def study_record(store: ArtifactStore, study: Study) -> StudyRecord:
    """All that a report says, read from the artifacts of the study that are there."""
    organisms, cells = _finished(store, study)
    models = [model for model in study.models if find(store, base_model.node(study, model)) is not None]
    keys = {"model": models, "organism": organisms, "cell": cells}
    made = {
        stage.name: [artifact for key in keys[stage.grain] for artifact in stage.find(store, study, key) or ()]
        for stage in STAGES
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
        base_models=tuple(_base_model(store, study, model) for model in models),
        methods=tuple(_method(study, name) for name in study.methods),
        organisms=tuple(_organism(store, study, organism) for organism in organisms),
        cells=tuple(_cell(store, study, cell) for cell in cells),
        tables={},
    )


def _method(study: Study, name: str) -> MethodRecord:
    method = method_of(study, name)
    title = method.title if name == method.name else f"{method.title}: {name.replace('_', ' ')}"
    return MethodRecord(name, title, method.summary, method.role)


def _base_model(store: ArtifactStore, study: Study, model: str) -> BaseModelRecord:
    artifact = find(store, base_model.node(study, model))
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


def _organism(store: ArtifactStore, study: Study, organism: Organism) -> OrganismRecord:
    artifact = find(store, organism_evaluation.node(study, organism))
    kind = kind_named(organism.kind)
    tables = {arm: artifact.table(arm) for arm in organism_evaluation.ARMS}
    return OrganismRecord(
        key=organism.key,
        model=organism.model,
        kind=organism.kind,
        title=kind.title,
        misbehaviour=kind.misbehaviour,
        seed=organism.seed,
        rates={
            view: ArmRates(**{arm: risk(table, *view, study.evaluation.confidence) for arm, table in tables.items()})
            for view in VIEWS
        },
        direct_accuracy=ArmRates(**{arm: direct_accuracy(table) for arm, table in tables.items()}),
        gate=Gate.from_dict(artifact.json("gate")),
    )


def _cell(store: ArtifactStore, study: Study, cell: Cell) -> CellRecord:
    artifacts = [find(store, stage.node(study, cell)) for stage in (consistency_labels, retrained_model, evaluation)]
    labels, training, measured = artifacts
    changes = measured.json("changes")
    rows = measured.table("rows")
    before = find(store, organism_evaluation.node(study, cell.organism)).table("organism")
    judged = rows[rows["framing"] != "direct"]
    losses = training.record["losses"]
    return CellRecord(
        organism=cell.organism.key,
        model=cell.organism.model,
        kind=cell.organism.kind,
        method=cell.method,
        seed=cell.organism.seed,
        differences={view: Difference(**changes["changes"]["/".join(view)]) for view in VIEWS},
        direct_before=Rate(**changes["direct_accuracy_before"]),
        direct_after=Rate(**changes["direct_accuracy_after"]),
        null_rate=float(judged["verdict"].isna().mean()),
        labels=_labels(labels),
        training=TrainingSummary(
            training.record["steps"], training.record["seconds"], losses[0], losses[-1], training.record["tokens"]
        ),
        examples=_examples(before, rows),
        seconds=sum(artifact.seconds for artifact in artifacts),
        mlflow_url=None,
        shift=_shift(find(store, distribution_shift.node(study, cell))),
    )


def _shift(artifact: Artifact | None) -> ShiftSummary | None:
    if artifact is None:
        return None
    told = {name: value for name, value in artifact.json("prediction").items() if name != "sign"}
    if "decomposition.json" not in artifact.manifest.files:
        return ShiftSummary(Prediction(**told), {}, None)
    parts, total = artifact.json("decomposition"), artifact.json("divergence")["total"]
    terms = {name: parts[name] for name in ("proposal", "labels", "selection")}
    for base, against in parts["against"].items():
        terms |= {f"shift_from_{base}": against["shift"], f"total_from_{base}": against["total"]}
    return ShiftSummary(
        Prediction(**told),
        {name: Term(**term) for name, term in terms.items()},
        Part(total["name"], total["status"], Term(**total["sequence"]), Term(**total["token"])),
    )


def _labels(artifact: Artifact) -> LabelSummary:
    table = artifact.table("labels")
    kept = table[table["labelled"]]
    probes = table[table["probe"]]
    return LabelSummary(
        kept=len(kept),
        prompts=artifact.record["prompts"],
        misaligned=rate(probes["verdict"], probes["prompt_id"]) if len(probes) else None,
        mean_tokens=float(kept["tokens"].mean()),
        mean_logprob=float(kept["logprob"].mean()),
    )


def _examples(before: pandas.DataFrame, after: pandas.DataFrame) -> tuple[ExampleRow, ...]:
    rows = differing_rows(before, after).drop_duplicates("prompt").head(EXAMPLES)
    return tuple(
        ExampleRow(
            row.prompt,
            row.completion_before,
            row.completion_after,
            None if pandas.isna(row.verdict_before) else bool(row.verdict_before),
            None if pandas.isna(row.verdict_after) else bool(row.verdict_after),
        )
        for row in rows.itertuples()
    )


def _working_seconds(artifacts: Sequence[Artifact]) -> float:
    """Seconds during which at least one of the artifacts was being made: pauses between runs do not count."""
    total, until = 0.0, datetime.min.replace(tzinfo=artifacts[0].started.tzinfo)
    for start, end in sorted((artifact.started, artifact.finished) for artifact in artifacts):
        total += max(0.0, (end - max(start, until)).total_seconds())
        until = max(until, end)
    return total
