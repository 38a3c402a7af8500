"""Every number of a report as flat tables, written as CSV and Parquet."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ct_pipeline.analysis.arms import arms_table
from ct_pipeline.analysis.outcomes import SHARES
from ct_pipeline.analysis.published import published_table
from ct_pipeline.analysis.verdicts import effect, verdict
from ct_pipeline.report.curves import curves
from ct_pipeline.report.divergences import label_part
from ct_pipeline.report.flat import RATE, row_of, same
from ct_pipeline.report.judge_sections import judged_changes_table
from ct_pipeline.report.planted import planted_table
from ct_pipeline.report.records import MAIN_VIEW, VIEWS, CellRecord, StudyRecord
from ct_pipeline.report.split import Split, splits
from ct_pipeline.report.summary import grid
from ct_pipeline.report.wording import visible

Rows = list[dict[str, object]]

COMPARED_MODELS = ("base", "control", "organism")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
RUN = same("organism", "method")
CELL = same("organism", "model", "kind", "seed", "method")
INTERVAL = same("value", "low", "high", "standard_error")
CHANGE = {
    "change": "value",
    **same("low", "high", "before", "after", "standard_error", "minimum_detectable", "prompts"),
    "dropped_prompts": "dropped",
    "rows": "rows",
    "missing_rows": "missing",
    **same("unit", "seeds"),
}
GATE = {
    "organism": "key",
    **same("model", "kind", "seed"),
    "passed": "gate.passed",
    "used": "used",
    "induced": "gate.induced.value",
    "induced_low": "gate.induced_low",
    "control_change": "gate.control.value",
    "control_low": "gate.control_low",
    "headroom": "gate.headroom",
    "reasons": lambda one: " ".join(one.gate.reasons) if one.gate else None,
}
LABELS = {
    **RUN,
    "kept": "labels.kept",
    "offered_prompts": "labels.prompts",
    **same(*RATE, prefix="misaligned_", of="labels.misaligned"),
    **same("mean_tokens", "mean_logprob", of="labels"),
}
TRAINING = {
    **RUN,
    **same("steps", "seconds", "first_loss", "last_loss", "tokens", of="training"),
    "cell_seconds": "seconds",
}
PREDICTION = {
    **RUN,
    "predicted": "shift.prediction.value",
    "predicted_low": "shift.prediction.low",
    "predicted_high": "shift.prediction.high",
    "predicted_sign": "shift.prediction.predicted_sign",
    "basis": "shift.prediction.basis",
    "observed": lambda cell: row_of(cell.differences.get(MAIN_VIEW), CHANGE)["change"],
}
LABELS_KL = {"kl": "shift.kl.sequence.value", "kl_per_token": "shift.kl.token.value", "kl_status": "shift.kl.status"}
TYPE_SCORE = {
    **same("decoding", "type", "corrected_before", "corrected_after"),
    **same("low", "high", prefix="corrected_", of="change"),
    **same("published_before", "published_after", "prompts", "needs_judge"),
}
CAPABILITY = {
    "measured": "name",
    **same("metric", "higher_is_better"),
    **{
        f"{side}{part}": f"{side}.{part[1:] or 'value'}"
        for side in ("base", "before", "after")
        for part in ("", "_low", "_high")
    },
    "change": "change.value",
    **same("low", "high", of="change"),
    "documents": "change.prompts",
    "dropped": "change.dropped",
}
BASE_MODEL = {
    "model": "name",
    **same("source", "parameters"),
    **same(*RATE, prefix="direct_", of="direct_accuracy"),
    **same("pretraining_seconds", "pretraining_tokens"),
}
KL = {
    **same("name", "status"),
    **{
        f"{unit}{part}": f"{field}.{part[1:] or 'value'}"
        for unit, field in (("per_answer", "sequence"), ("per_token", "token"))
        for part in ("", "_low", "_high")
    },
}
EXAMPLE = same("prompt", "before", "after", "verdict_before", "verdict_after", "correct_before", "correct_after")
OUTCOMES = {
    **{f"{share}_{side}": f"{side}.{share}" for side in ("before", "after") for share in (*SHARES, "cut")},
    "right_change": "right.value",
    **same("low", "high", prefix="right_", of="right"),
    **same("worst_low", "worst_high"),
}


def report_tables(record: StudyRecord) -> dict[str, pd.DataFrame]:
    """Name to table, those without a row left out; shares and changes in [-1, 1], KL in nats, missing numbers null.

    Returns:
        grid (method × kind × view), changes (cell × view), organism_rates, gates, direct_accuracy, labels, predictions,
        training, type_scores, capability, examples, base_models, shift_and_selection (kind × method × base × part, means
        over seeds), arms (the same parts of Δ), arms_by_run, k_curves, rank_profiles, rank_profile_means, kl, doses,
        stages, published, planted, judged_changes.
    """
    cells, organisms = record.cells, record.organisms
    shifted = [cell for cell in cells if cell.shift]
    rows: dict[str, Rows] = {
        "grid": _grid(record),
        "changes": _changes(record),
        "organism_rates": [
            {"organism": one.key, "domain": view[0], "decoding": view[1], "arm": arm, **_rate(getattr(rates, arm))}
            for one in organisms
            for view, rates in one.rates.items()
            for arm in COMPARED_MODELS
        ],
        "gates": [row_of(one, GATE) for one in organisms],
        "direct_accuracy": [
            *(
                {"organism": one.key, "method": None, "arm": arm, **_rate(getattr(one.direct_accuracy, arm))}
                for one in organisms
                for arm in COMPARED_MODELS
            ),
            *(
                {**row_of(cell, RUN), "arm": arm, **_rate(getattr(cell, f"direct_{arm}"))}
                for cell in cells
                for arm in ("before", "after")
            ),
        ],
        "labels": [row_of(cell, LABELS) for cell in cells if cell.labels],
        "predictions": [
            row_of(cell, PREDICTION)
            | {
                f"{name}{part}": value
                for name, term in cell.shift.terms.items()
                for part, value in row_of(term, {"": "value", "_low": "low", "_high": "high"}).items()
            }
            | row_of(cell, LABELS_KL)
            for cell in shifted
        ],
        "training": [row_of(cell, TRAINING) for cell in cells if cell.training],
        "type_scores": [{**row_of(cell, RUN), **row_of(one, TYPE_SCORE)} for cell in cells for one in cell.type_scores],
        "capability": _capability(record),
        "examples": [{**row_of(cell, RUN), **row_of(one, EXAMPLE)} for cell in cells for one in cell.examples],
        "base_models": [row_of(model, BASE_MODEL) for model in record.base_models],
        "shift_and_selection": _splits(record),
        "arms": _arms(record),
        "arms_by_run": _arms_by_run(cells),
        "k_curves": [{**row_of(cell, RUN), **vars(point)} for cell in shifted for point in cell.shift.curve],
        "rank_profiles": [
            {**row_of(cell, RUN), "simpson_warning": cell.shift.simpson_warning, **vars(point)}
            for cell in shifted
            for point in cell.shift.profile
        ],
        "rank_profile_means": _rank_means(record),
        "kl": [row for cell in cells for row in _kl(cell)],
        "doses": [
            {**row_of(cell, RUN), "step": dose.step, **row_of(dose.change, {"change": "value", **same("low", "high")})}
            for cell in cells
            for dose in cell.doses
        ],
        "stages": [{"stage": name, "seconds": seconds} for name, seconds in record.stage_seconds.items()],
    }
    tables = {name: _frame(each) for name, each in rows.items()}
    tables["published"] = published_table(tuple(method.name for method in record.methods))
    if record.planted:
        tables["planted"] = planted_table(record.planted)
    if any(one["changes"] for one in record.judging.values()):
        tables["judged_changes"] = judged_changes_table(record.judging)
    return {name: table for name, table in tables.items() if len(table.columns)}


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Writes each table as <name>.csv and <name>.parquet; text that a spreadsheet would run gets a quote in the CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in tables.items():
        write_csv(table, folder / f"{name}.csv")
        table.to_parquet(folder / f"{name}.parquet", index=False)
        written += [folder / f"{name}.csv", folder / f"{name}.parquet"]
    return written


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table as RFC 4180 has it, so that no cell is run and none ends early.

    Lines end in CR LF: only then does Python quote a cell with a lone CR, which readers take for the end of its line.
    """
    safe = safe_for_spreadsheets(table)
    safe.to_csv(path, index=False, lineterminator="\r\n", encoding="utf-8")


def safe_for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """A copy whose text cells never begin with a character that a spreadsheet takes for a formula; numbers stay."""
    return table.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell)


def _frame(rows: Rows) -> pd.DataFrame:
    cleaned = [{name: visible(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows]
    return pd.DataFrame(cleaned).convert_dtypes(convert_string=False, convert_integer=False)


def _rate(rate: object) -> dict[str, object]:
    return row_of(rate, same(*RATE))


def _grid(record: StudyRecord) -> Rows:
    return [
        {
            "domain": view[0],
            "decoding": view[1],
            **_kind(cell),
            "method": cell.method.name,
            **row_of(cell.change, CHANGE),
            "verdict": str(cell.verdict) if cell.verdict else None,
            "smallest_called": cell.change.smallest_called(record.epsilon) if cell.change else None,
            **row_of(cell, {"survives_holm": "survives", "published_pp": "published"}),
            **row_of(cell.outcomes, OUTCOMES),
            "suppressed_not_corrected": cell.not_corrected if cell.outcomes else None,
        }
        for view in VIEWS
        for row in grid(record, view)
        for cell in row
    ]


def _changes(record: StudyRecord) -> Rows:
    return [
        {
            **row_of(cell, CELL),
            "domain": view[0],
            "decoding": view[1],
            **row_of(change, CHANGE),
            "verdict": str(verdict(change, record.epsilon)),
            "null_rate": cell.null_rate,
            **row_of(cell.outcomes.get(view), OUTCOMES),
        }
        for cell in record.cells
        for view, change in cell.differences.items()
    ]


def _capability(record: StudyRecord) -> Rows:
    return [
        {
            **row_of(cell, same("organism", "model", "kind", "method", "seed")),
            **row_of(score, CAPABILITY),
            "verdict": str(effect(score.change, record.epsilon, score.higher_is_better)),
        }
        for cell in record.cells
        for score in cell.capability
    ]


def _splits(record: StudyRecord) -> Rows:
    return [
        {**_kind(one), "method": row.method.name, "against": base, **part}
        for one in splits(record)
        for base, rows in one.labels.items()
        for row in rows
        for part in _parts(row)
    ]


def _arms(record: StudyRecord) -> Rows:
    return [
        {**_kind(one), "method": row.method.name, "one_candidate_arm": row.method.one, **part}
        for one in splits(record)
        for row in one.arms
        for part in _parts(row)
    ]


def _kind(of: object) -> dict[str, object]:
    return row_of(of, same("model", "kind", of="column"))


def _parts(row: Split) -> Rows:
    terms = {**row.parts, "total": row.total}
    return [{"part": name, **row_of(term, INTERVAL), "seeds": row.seeds} for name, term in terms.items()]


def _arms_by_run(cells: Iterable[CellRecord]) -> Rows:
    found = {f"{cell.organism} {cell.method}": cell for cell in cells if cell.arms is not None}
    table = arms_table({key: cell.arms for key, cell in found.items()})
    return [{**row_of(found[row.pop("cell")], RUN), **row} for row in table.to_dict("records")]


def _rank_means(record: StudyRecord) -> Rows:
    return [
        {
            **_kind(group),
            "method": one.method.name,
            "u": u,
            **{"within": term.value, "within_low": term.low, "within_high": term.high},
            "pooled": dict(one.pooled).get(u),
            "simpson_warnings": one.warnings,
            "seeds": one.seeds,
        }
        for group in curves(record)
        for one in group.rank_curves
        for u, term in one.within
    ]


def _kl(cell: CellRecord) -> Rows:
    parts = {"labels" if cell.shift is None or cell.shift.kl else "teacher shift": label_part(cell)}
    if cell.uptake:
        parts |= {"uptake forward": cell.uptake.forward, "uptake backward": cell.uptake.backward}
    return [
        {**row_of(cell, RUN), "quantity": name, **row_of(part, KL)} for name, part in parts.items() if part is not None
    ]
