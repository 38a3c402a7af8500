"""The tables behind the section on causes, one row per number and cell or mean."""

from ct_pipeline.analysis.arms import arms_table
from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.report.curves import curves
from ct_pipeline.report.divergences import label_part
from ct_pipeline.report.records import CellRecord, StudyRecord
from ct_pipeline.report.split import splits

Rows = list[dict[str, object]]


def why_rows(record: StudyRecord) -> dict[str, Rows]:
    """Name to rows; shares and changes in [-1, 1], KL in nats, missing numbers null.

    Returns:
        shift_and_selection (kind × method × base × part, means over seeds), arms (the same parts of Δ), arms_by_run,
        k_curves, rank_profiles, rank_profile_means, kl, doses.
    """
    return {
        "shift_and_selection": _split_rows(record),
        "arms": _arm_rows(record),
        "arms_by_run": _arm_run_rows(record),
        "k_curves": [
            {**_run(cell), **vars(point)} for cell in record.cells if cell.shift for point in cell.shift.curve
        ],
        "rank_profiles": [
            {**_run(cell), "simpson_warning": cell.shift.simpson_warning, **vars(point)}
            for cell in record.cells
            if cell.shift
            for point in cell.shift.profile
        ],
        "rank_profile_means": _rank_rows(record),
        "kl": [row for cell in record.cells for row in _kl_rows(cell)],
        "doses": [
            {
                **_run(cell),
                "step": dose.step,
                "change": dose.change.value,
                "low": dose.change.low,
                "high": dose.change.high,
            }
            for cell in record.cells
            for dose in cell.doses
        ],
    }


def _run(cell: CellRecord) -> dict[str, object]:
    return {"organism": cell.organism, "method": cell.method}


def _term(term: Estimate) -> dict[str, object]:
    known = term.value is not None
    return {
        "value": term.value,
        "low": term.low if known else None,
        "high": term.high if known else None,
        "standard_error": term.standard_error,
    }


def _split_rows(record: StudyRecord) -> Rows:
    return [
        {
            "model": one.column.model,
            "kind": one.column.kind,
            "method": row.method.name,
            "against": base,
            "part": name,
            **_term(term),
            "seeds": row.seeds,
        }
        for one in splits(record)
        for base, rows in one.labels.items()
        for row in rows
        for name, term in {**row.parts, "total": row.total}.items()
    ]


def _arm_rows(record: StudyRecord) -> Rows:
    return [
        {
            "model": one.column.model,
            "kind": one.column.kind,
            "method": row.method.name,
            "one_candidate_arm": row.method.one,
            "part": name,
            **_term(term),
            "seeds": row.seeds,
        }
        for one in splits(record)
        for row in one.arms
        for name, term in {**row.parts, "total": row.total}.items()
    ]


def _arm_run_rows(record: StudyRecord) -> Rows:
    found = {f"{cell.organism} {cell.method}": cell for cell in record.cells if cell.arms is not None}
    table = arms_table({key: cell.arms for key, cell in found.items()})
    return [{**_run(found[row.pop("cell")]), **row} for row in table.to_dict("records")]


def _rank_rows(record: StudyRecord) -> Rows:
    rows = []
    for group in curves(record):
        for one in group.rank_curves:
            pooled = dict(one.pooled)
            rows += [
                {
                    "model": group.column.model,
                    "kind": group.column.kind,
                    "method": one.method.name,
                    "u": u,
                    "within": term.value,
                    "within_low": term.low,
                    "within_high": term.high,
                    "pooled": pooled.get(u),
                    "simpson_warnings": one.warnings,
                    "seeds": one.seeds,
                }
                for u, term in one.within
            ]
    return rows


def _kl_rows(cell: CellRecord) -> Rows:
    quantity = "labels" if cell.shift is None or cell.shift.kl else "teacher shift"
    parts = {quantity: label_part(cell)}
    if cell.uptake:
        parts |= {"uptake forward": cell.uptake.forward, "uptake backward": cell.uptake.backward}
    return [{**_run(cell), "quantity": name, **_part(part)} for name, part in parts.items() if part is not None]


def _part(part: KlEstimate) -> dict[str, object]:
    sequence, token = part.sequence, part.token
    return {
        "name": part.name,
        "status": part.status,
        "per_answer": sequence.value,
        "per_answer_low": sequence.low,
        "per_answer_high": sequence.high,
        "per_token": token.value,
        "per_token_low": token.low,
        "per_token_high": token.high,
    }
