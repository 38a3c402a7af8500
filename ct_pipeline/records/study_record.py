"""What a report is made from, read from the artifacts of a study that are there."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import pandas

from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.gate import Gate
from ct_pipeline.analysis.paired import Difference, DifferenceOfDifferences
from ct_pipeline.analysis.prediction import Prediction
from ct_pipeline.analysis.rates import Rate, rate
from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.measurement.asking import direct_accuracy, risk
from ct_pipeline.measurement.condition import View
from ct_pipeline.measurement.contrast import CHANGE_OF_GAP
from ct_pipeline.measurement.differing_rows import differing_rows
from ct_pipeline.measurement.organism_rows import misalignment_of
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.records.arms import arms_of, one_of
from ct_pipeline.records.capability_summary import capability_of
from ct_pipeline.records.judging import judging_of, labels_with_verdicts
from ct_pipeline.records.planted import recovered
from ct_pipeline.report.records import (
    VIEWS,
    ArmRates,
    BaseModelRecord,
    CellRecord,
    ContrastRecord,
    CurvePoint,
    Dose,
    ExampleRow,
    LabelSummary,
    MethodRecord,
    OrganismRecord,
    ProfilePoint,
    ShiftSummary,
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
    consistency_labels,
    distribution_shift,
    evaluation,
    organism_evaluation,
    retrained_model,
    uptake,
)
from ct_pipeline.steps.catalog import STAGES, Key, stage_named
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, StoreSnapshot, find

EXAMPLES = 6


def usable_cells(store: ArtifactStore, study: Study, organisms: Iterable[Organism]) -> tuple[Cell, ...]:
    """The cells of the organisms that were measured and passed their gate."""
    cells = []
    for organism in organisms:
        gate = find(store, organism_evaluation.node(study, organism))
        if gate is not None and organism_evaluation.usable(study, gate):
            cells += [Cell(organism, method) for method in study.methods]
    return tuple(cells)


def place_of(look: StoreSnapshot, study: Study, stage: str, key: Key) -> Node:
    """The node of a stage that makes one artifact per key."""
    (place,) = look.nodes(stage_named(stage).nodes, study, key)
    return place


def finished(look: StoreSnapshot, study: Study) -> tuple[list[Organism], list[Cell]]:
    """What a report covers: the measured organisms, and the evaluated cells of those that may be used."""
    organisms = [o for o in study.organisms if find(look, place_of(look, study, organism_evaluation.STAGE, o))]
    usable = usable_cells(look, study, organisms)
    cells = [cell for cell in usable if find(look, place_of(look, study, evaluation.STAGE, cell))]
    return organisms, cells


def study_record(store: ArtifactStore, study: Study) -> StudyRecord:
    """All that a report says, read from the artifacts of the study that are there."""
    look = StoreSnapshot(store)
    organisms, cells = finished(look, study)
    models = [model for model in study.models if find(look, base_model.node(study, model)) is not None]
    keys = {"model": models, "organism": organisms, "cell": cells}
    made = {
        stage.name: [one for key in keys[stage.grain] for one in _made(look, look.nodes(stage.nodes, study, key))]
        for stage in STAGES
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


def method_record(study: Study, name: str) -> MethodRecord:
    """An entry of the study's methods as a reader meets it; a variant is titled by its own name, too."""
    method = method_of(study, name)
    title = method.title if name == method.name else f"{method.title}: {name.replace('_', ' ')}"
    k = getattr(study.methods[name], "k", None)
    return MethodRecord(name, title, method.summary, method.role, k, one_of(study, name))


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
    artifact = find(look, place_of(look, study, organism_evaluation.STAGE, organism))
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
        gate=Gate.from_dict(artifact.json("gate")),
        used=organism_evaluation.usable(study, artifact),
    )


def _cell(look: StoreSnapshot, study: Study, cell: Cell) -> CellRecord:
    stages = (consistency_labels, retrained_model, evaluation)
    artifacts = [find(look, place_of(look, study, stage.STAGE, cell)) for stage in stages]
    labels, training, measured = artifacts
    changes = measured.json("changes")
    rows = measured.table("rows")
    before = find(look, place_of(look, study, organism_evaluation.STAGE, cell.organism)).table("organism")
    judged = risk_rows(rows, None)
    losses = training.record["losses"]
    return CellRecord(
        organism=cell.organism.key,
        model=cell.organism.model,
        kind=cell.organism.kind,
        method=cell.method,
        seed=cell.organism.seed,
        differences={view: Difference(**changes["changes"][view.name]) for view in VIEWS},
        direct_before=Rate(**changes["direct_accuracy_before"]),
        direct_after=Rate(**changes["direct_accuracy_after"]),
        null_rate=float(judged["verdict"].isna().mean()),
        labels=_labels(labels, labels_with_verdicts(look, study, cell, labels.table("labels"))),
        training=TrainingSummary(
            training.record["steps"], training.record["seconds"], losses[0], losses[-1], training.record["tokens"]
        ),
        examples=_examples(before, rows),
        seconds=sum(artifact.seconds for artifact in artifacts),
        mlflow_url=None,
        shift=shift_of(find(look, place_of(look, study, distribution_shift.STAGE, cell))),
        doses=doses_of(measured),
        arms=arms_of(look, study, cell.organism, cell.method),
        uptake=_uptake(find(look, place_of(look, study, uptake.STAGE, cell))),
        type_scores=_type_scores(measured),
        capability=capability_of(look, study, cell),
        contrasts=_contrasts(changes),
    )


def _contrasts(changes: Mapping[str, dict]) -> tuple[ContrastRecord, ...]:
    """The contrasts of a study's conditions; () where it names none."""
    return tuple(
        ContrastRecord(
            name,
            one["title"],
            one["kind"],
            View(*one["view"].split("/")),
            (DifferenceOfDifferences if one["kind"] == CHANGE_OF_GAP else Difference)(**one["difference"]),
        )
        for name, one in changes.get("contrasts", {}).items()
    )


def shift_of(artifact: Artifact | None) -> ShiftSummary | None:
    """What the artifact of `distribution_shift` says; None where there is none."""
    if artifact is None:
        return None
    files = artifact.manifest.files
    told = {name: value for name, value in artifact.json("prediction").items() if name != "sign"}
    terms, kl = {}, None
    if "decomposition.json" in files:
        parts, kl = artifact.json("decomposition"), artifact.json("divergence")["total"]
        terms = {name: parts[name] for name in ("proposal", "labels", "selection")}
        for base, against in parts["against"].items():
            terms |= {f"shift_from_{base}": against["shift"], f"total_from_{base}": against["total"]}
    return ShiftSummary(
        prediction=Prediction(**told),
        terms={name: Estimate(**term) for name, term in terms.items()},
        kl=kl and _part(kl),
        teacher=_part(artifact.json("teacher_shift")) if "teacher_shift.json" in files else None,
        curve=_points(artifact, "k_curve", CurvePoint),
        profile=_points(artifact, "rank_profile", ProfilePoint),
        simpson_warning=artifact.json("rank_profile")["simpson_warning"] if "rank_profile.json" in files else None,
    )


def _part(document: dict) -> KlEstimate:
    return KlEstimate(
        document["name"], document["status"], Estimate(**document["sequence"]), Estimate(**document["token"])
    )


def _points(artifact: Artifact, name: str, point: type[CurvePoint] | type[ProfilePoint]) -> tuple:
    """The rows of a stored table as records; not a number becomes None; empty where there is no such table."""
    if f"{name}.parquet" not in artifact.manifest.files:
        return ()
    table = artifact.table(name)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return tuple(point(**row) for row in rows)


def doses_of(evaluated: Artifact) -> tuple[Dose, ...]:
    """The dose curve of an evaluated cell; empty where no checkpoints were kept."""
    return tuple(
        Dose(one["step"], Difference(**{name: value for name, value in one.items() if name != "step"}))
        for one in evaluated.json("doses")
    )


def _type_scores(evaluated: Artifact) -> tuple[TypeScore, ...]:
    """The scores by type of published data, a mean over types after those of each decoding; () for other data."""
    if "type_scores.json" not in evaluated.manifest.files:
        return ()
    found = []
    for decoding, scores in evaluated.json("type_scores").items():
        for one in scores["types"]:
            told = (one["type"], one["prompts"], *_sides(one))
            found.append(TypeScore(decoding, *told, Difference(**one["corrected"]), one["needs_judge"]))
        found.append(TypeScore(decoding, "mean over types", None, *_sides(scores)))
    return tuple(found)


def _sides(scores: dict) -> tuple[float | None, ...]:
    return tuple(scores[scoring][side] for scoring in ("corrected", "published") for side in ("before", "after"))


def _uptake(artifact: Artifact | None) -> Uptake | None:
    if artifact is None:
        return None
    parts = artifact.json("uptake")
    return Uptake(_part(parts["forward"]), _part(parts["backward"]))


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
