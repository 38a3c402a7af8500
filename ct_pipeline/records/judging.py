"""What a study's report says of its judges, read from the artifacts that are there."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas

from ct_pipeline.analysis.judge_error import corrected
from ct_pipeline.analysis.krippendorff import krippendorff_alpha
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.judges.calibration import error_of
from ct_pipeline.measurement.judge_digests import told as described
from ct_pipeline.measurement.judging import AGAINST
from ct_pipeline.measurement.organism_rows import misalignment_of
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import candidate_verdicts, evaluation, organism_evaluation
from ct_pipeline.steps.candidate_verdicts import verdict_nodes
from ct_pipeline.steps.consistency_candidates import draws_of
from ct_pipeline.steps.judge_calibration import calibration_nodes
from ct_pipeline.store.artifact_store import Artifact
from ct_pipeline.store.node import StoreSnapshot, find
from ct_pipeline.store.typed import typed

COUNTS = ("replies", "cached", "requests", "prompt_tokens", "completion_tokens", "unreported")


def judging_of(
    look: StoreSnapshot, study: Study, organisms: Sequence[Organism], cells: Sequence[Cell]
) -> dict[str, dict[str, object]]:
    """Title of a kind of misalignment -> its judges, as `report.judge_sections.Judging` has them; {} without judges."""
    return {
        misalignment_of(study, kind).title: _judging(
            look,
            study,
            kind,
            [one for one in organisms if one.kind == kind],
            [cell for cell in cells if cell.organism.kind == kind],
        )
        for kind in study.judges
        if any(one.kind == kind for one in organisms)
    }


def _judging(
    look: StoreSnapshot, study: Study, kind: str, organisms: Sequence[Organism], cells: Sequence[Cell]
) -> dict[str, object]:
    calibrated = {role: find(look, place) for role, place in calibration_nodes(study, kind).items()}
    before = {one.key: find(look, organism_evaluation.node(study, one)) for one in organisms}
    after = {cell: find(look, evaluation.node(study, cell)) for cell in cells}
    drawn = [find(look, place) for one in organisms for place in verdict_nodes(study, one, draws_of(study)).values()]
    errors = {role: each.json("calibration") for role, each in calibrated.items() if each is not None}
    measured = [*before.values(), *after.values()]
    paid = [*measured, *drawn, *calibrated.values()]
    return {
        "judges": [
            {
                "role": role,
                **described(file),
                **_counted(role, measured),
                "spent": _spent(role, paid),
                "calibration": errors.get(role),
            }
            for role, file in study.judges[kind].files.items()
        ],
        "agreement": _agreement(measured) if study.judges[kind].against is not None else None,
        "changes": list(_changes(after, errors, study.evaluation.confidence)),
    }


def _records(role: str, artifacts: Iterable[Artifact | None]) -> list[Mapping]:
    found = [artifact.record.get("judging", {}) for artifact in artifacts if artifact is not None]
    return [each[role] for each in found if role in each]


def _counted(role: str, artifacts: Iterable[Artifact | None]) -> dict[str, object]:
    """Answers of evaluations that were judged, and the missing verdicts by their reasons."""
    records = _records(role, artifacts)
    problems: dict[str, int] = {}
    for record in records:
        for problem, count in record["problems"].items():
            problems[problem] = problems.get(problem, 0) + count
    return {
        "asked": sum(record["asked"] for record in records),
        "missing": sum(record["missing"] for record in records),
        "problems": problems,
    }


def _spent(role: str, artifacts: Iterable[Artifact | None]) -> dict[str, object] | None:
    """What the judge took in all, kept replies not counted; None where it is not behind a server."""
    spent = [record["spent"] for record in _records(role, artifacts) if record["spent"] is not None]
    if not spent:
        return None
    costs = [each["cost"] for each in spent]
    return {name: sum(each[name] for each in spent) for name in COUNTS} | {
        "cost": None if None in costs else sum(costs)
    }


def _agreement(artifacts: Iterable[Artifact | None]) -> dict[str, object] | None:
    """Krippendorff's alpha over the distinct answers that both judges were asked about."""
    tables = [table for artifact in artifacts if artifact is not None for table in _tables(artifact)]
    asked = [table[["prompt_id", "completion", "verdict", AGAINST]] for table in tables if AGAINST in table]
    if not asked:
        return None
    answers = pandas.concat(asked).drop_duplicates(["prompt_id", "completion"])
    # A verdict of a rule has no second one beside it: only what both said counts.
    alpha = krippendorff_alpha([list(answers["verdict"]), list(answers[AGAINST])], "nominal")
    found = dataclasses.asdict(alpha)
    return {name: None if isinstance(value, float) and value != value else value for name, value in found.items()}


def _tables(artifact: Artifact) -> Iterator[pandas.DataFrame]:
    names = organism_evaluation.COMPARED_MODELS if artifact.manifest.stage == organism_evaluation.NAME else ("rows",)
    yield from (artifact.table(name) for name in names)


def _changes(
    after: Mapping[Cell, Artifact | None], errors: Mapping[str, Mapping], confidence: float
) -> Iterator[dict[str, object]]:
    for cell, artifact in after.items():
        if artifact is None or "judged.json" not in artifact.manifest.files:
            continue
        for role, document in artifact.json("judged").items():
            error = error_of(errors[role]) if role in errors else None
            true = None
            if error is not None:
                true = dataclasses.asdict(corrected(typed(Difference, document), error, confidence=confidence))
            yield {"of": f"{cell.organism.key}/{cell.method}", "role": role, "seen": document, "corrected": true}


def labels_with_verdicts(look: StoreSnapshot, study: Study, cell: Cell, labels: pandas.DataFrame) -> pandas.DataFrame:
    """The labels of a cell with the judge's verdicts, as far as they are there."""
    nodes = verdict_nodes(study, cell.organism, draws_of(study))
    found = {name: artifact for name, place in nodes.items() if (artifact := find(look, place)) is not None}
    return candidate_verdicts.with_candidate_verdicts(labels, found)
