"""The judges of an audit: their verdicts on answers whose probe has a rubric, and what the card says of them."""

import dataclasses
from collections.abc import Iterator, Mapping

import pandas

from ct_pipeline.analysis.judge_error import corrected
from ct_pipeline.analysis.krippendorff import krippendorff_alpha
from ct_pipeline.judges.calibration import calibrate, error_of, read_labelled, with_rule
from ct_pipeline.measurement.contrast import BEFORE, change, estimated, sides_of
from ct_pipeline.measurement.judge_digests import told
from ct_pipeline.measurement.judging import AGAINST, Judged, column_of, with_verdicts
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.judge import YesNoRubric
from ct_pipeline.steps.resolved_audit import ResolvedAudit


def with_judgements(
    subject: ResolvedAudit, tables: Mapping[str, pandas.DataFrame], rubrics: Mapping[str, str], second: bool = True
) -> Judged:
    """The tables with the judge's verdict in every row whose prompt has a rubric; missing without a judge.

    Every distinct answer is judged once, before's and after's alike. A yes/no judge is asked the rubric of the row; one with
    scales of its own, or with a rule, judges by those.
    """
    judges = subject.audit.judges
    if not rubrics or not judges:
        return Judged(dict(tables), {})
    asked = judges if second else {"judge": judges["judge"]}
    return with_verdicts(tables, rubrics, asked, subject.open_judge)


def rubrics_of(subject: ResolvedAudit) -> dict[str, str]:
    """Prompt id -> what a judge is asked, over all probes."""
    return {prompt: text for probe in subject.probes.values() for prompt, text in probe.rubrics.items()}


def calibrations(subject: ResolvedAudit) -> dict[str, dict[str, object]]:
    """Role -> how the judge did on the labelled answers; empty without labels.

    Raises:
        Refused: the file of labelled answers is not accepted.
        UserError: a yes/no judge lacks a rubric to ask, or a judge cannot be reached.
    """
    audit = subject.audit
    if audit.calibration is None:
        return {}
    path = audit.place(audit.calibration)
    rows = read_labelled(path)
    rules = set(rubrics_of(subject).values())
    found = {}
    for role, file in audit.judges.items():
        of_rows = isinstance(file.rubric, YesNoRubric) and not file.rubric.rule
        if of_rows and len(rules) != 1 and not all(row.question.rule for row in rows):
            raise UserError(
                f"{path.name}: found rows without a rubric; allowed: a `rubric` in each row, because the probes have "
                f"{len(rules)} different ones"
            )
        asked = with_rule(rows, next(iter(rules))) if of_rows and len(rules) == 1 else rows
        found[role] = calibrate(subject.open_judge(file), asked).as_json()
    return found


def on_the_card(
    subject: ResolvedAudit,
    tables: Mapping[str, pandas.DataFrame],
    stored: Mapping[str, Mapping],
    confidence: float,
) -> dict[str, object] | None:
    """What the card says of the judges: who, errors, missing, agreement, and the change by each; None without a judge.

    Args:
        subject: what was audited.
        tables: the main rows (in domain, sampled) of each side.
        stored: `calibration` and `judging` of the answers' artifact.
        confidence: of intervals.
    """
    judges = subject.audit.judges
    if not judges:
        return None
    calibration = stored["calibration"]
    rubrics = rubrics_of(subject)
    rows = {side: table[table["prompt_id"].isin(rubrics)] for side, table in tables.items()}
    roles = [
        {"role": role, **told(file), **stored["judging"].get(role, {}), "calibration": calibration.get(role)}
        for role, file in judges.items()
    ]
    return {
        "judges": roles,
        "agreement": _agreement(rows) if rubrics and "against" in judges else None,
        "changes": list(_changes(subject, rows, calibration, confidence)) if rubrics and len(rows) == 2 else [],
    }


def _agreement(rows: Mapping[str, pandas.DataFrame]) -> dict[str, object]:
    """Krippendorff's alpha over the distinct answers that both judged."""
    answers = pandas.concat(rows.values()).drop_duplicates(["prompt_id", "completion"])
    alpha = krippendorff_alpha([list(answers["verdict"]), list(answers[AGAINST])], "nominal")
    told = dataclasses.asdict(alpha)
    return {name: None if isinstance(value, float) and value != value else value for name, value in told.items()}


def _changes(
    subject: ResolvedAudit, rows: Mapping[str, pandas.DataFrame], calibration: Mapping[str, Mapping], confidence: float
) -> Iterator[dict[str, object]]:
    for probe in subject.probes:
        for role in subject.audit.judges:
            column = column_of(role)
            asked = {side: table[table["probe"] == probe] for side, table in rows.items()}
            if not len(asked[BEFORE]):
                continue
            sides = {side: table.assign(verdict=table[column]) for side, table in asked.items()}
            seen = estimated(change(role), sides_of(sides), confidence)
            error = error_of(calibration[role]) if role in calibration else None
            true = None if error is None else dataclasses.asdict(corrected(seen, error, confidence=confidence))
            yield {"of": probe, "role": role, "seen": dataclasses.asdict(seen), "corrected": true}
