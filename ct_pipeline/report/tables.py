"""Every number of a report as flat tables, written as CSV and Parquet."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.published import published_table
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.analysis.verdicts import verdict
from ct_pipeline.report.capability import capability_table_rows
from ct_pipeline.report.judge_sections import judged_changes_table
from ct_pipeline.report.planted import planted_table
from ct_pipeline.report.records import MAIN_VIEW, VIEWS, ArmRates, StudyRecord
from ct_pipeline.report.summary import grid
from ct_pipeline.report.why_tables import why_rows
from ct_pipeline.report.wording import visible

COMPARED_MODELS = ("base", "control", "organism")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def report_tables(record: StudyRecord) -> dict[str, pd.DataFrame]:
    """Name to table, those without a row left out; rates and changes are shares in [-1, 1]; missing numbers are null.

    Returns:
        grid (method × kind × view), changes (cell × view), organism_rates, gates, direct_accuracy, labels, predictions,
        training, type_scores, capability, examples, base_models, those of `why_rows`, stages, published, planted,
        judged_changes.
    """
    tables = {
        "grid": _frame(_grid_rows(record)),
        "changes": _frame(_change_rows(record)),
        "organism_rates": _frame(_organism_rows(record)),
        "gates": _frame(_gate_rows(record)),
        "direct_accuracy": _frame(_direct_rows(record)),
        "labels": _frame(_label_rows(record)),
        "predictions": _frame(_prediction_rows(record)),
        "training": _frame(_training_rows(record)),
        "type_scores": _frame(_type_rows(record)),
        "capability": _frame(capability_table_rows(record)),
        "examples": _frame(_example_rows(record)),
        "base_models": _frame(_model_rows(record)),
        **{name: _frame(rows) for name, rows in why_rows(record).items()},
        "stages": _frame([{"stage": name, "seconds": seconds} for name, seconds in record.stage_seconds.items()]),
        "published": published_table(tuple(method.name for method in record.methods)),
    }
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


def _frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    cleaned = [{name: visible(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows]
    return pd.DataFrame(cleaned).convert_dtypes(convert_string=False, convert_integer=False)


def _rate(rate: Rate | None, prefix: str = "") -> dict[str, object]:
    return {
        f"{prefix}value": rate.value if rate else None,
        f"{prefix}low": rate.low if rate and rate.value is not None else None,
        f"{prefix}high": rate.high if rate and rate.value is not None else None,
        f"{prefix}prompts": rate.prompts if rate else None,
        f"{prefix}rows": rate.rows if rate else None,
        f"{prefix}missing": rate.missing if rate else None,
    }


def _change(change: Difference | None) -> dict[str, object]:
    bounded = change is not None and change.value is not None
    return {
        "change": change.value if change else None,
        "low": change.low if bounded else None,
        "high": change.high if bounded else None,
        "before": change.before if change else None,
        "after": change.after if change else None,
        "standard_error": change.standard_error if change else None,
        "minimum_detectable": change.minimum_detectable if change else None,
        "prompts": change.prompts if change else None,
        "dropped_prompts": change.dropped if change else None,
        "rows": change.rows if change else None,
        "missing_rows": change.missing if change else None,
        "unit": change.unit if change else None,
        "seeds": change.seeds if change else None,
    }


def _grid_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {
            "domain": view[0],
            "decoding": view[1],
            "model": cell.column.model,
            "kind": cell.column.kind,
            "method": cell.method.name,
            **_change(cell.change),
            "verdict": str(cell.verdict) if cell.verdict else None,
            "smallest_called": cell.change.smallest_called(record.epsilon) if cell.change else None,
            "survives_holm": cell.survives,
            "published_pp": cell.published,
        }
        for view in VIEWS
        for row in grid(record, view)
        for cell in row
    ]


def _change_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {
            "organism": cell.organism,
            "model": cell.model,
            "kind": cell.kind,
            "seed": cell.seed,
            "method": cell.method,
            "domain": view[0],
            "decoding": view[1],
            **_change(change),
            "verdict": str(verdict(change, record.epsilon)),
            "null_rate": cell.null_rate,
        }
        for cell in record.cells
        for view, change in cell.differences.items()
    ]


def _arms(rates: ArmRates) -> list[tuple[str, Rate | None]]:
    return [(arm, getattr(rates, arm)) for arm in COMPARED_MODELS]


def _organism_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {"organism": one.key, "domain": view[0], "decoding": view[1], "arm": arm, **_rate(rate)}
        for one in record.organisms
        for view, rates in one.rates.items()
        for arm, rate in _arms(rates)
    ]


def _gate_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {
            "organism": one.key,
            "model": one.model,
            "kind": one.kind,
            "seed": one.seed,
            "passed": one.gate.passed if one.gate else None,
            "used": one.used,
            "induced": one.gate.induced.value if one.gate else None,
            "induced_low": one.gate.induced_low if one.gate else None,
            "control_change": one.gate.control.value if one.gate else None,
            "control_low": one.gate.control_low if one.gate else None,
            "headroom": one.gate.headroom if one.gate else None,
            "reasons": " ".join(one.gate.reasons) if one.gate else None,
        }
        for one in record.organisms
    ]


def _direct_rows(record: StudyRecord) -> list[dict[str, object]]:
    organisms = [
        {"organism": one.key, "method": None, "arm": arm, **_rate(rate)}
        for one in record.organisms
        for arm, rate in _arms(one.direct_accuracy)
    ]
    cells = [
        {"organism": cell.organism, "method": cell.method, "arm": arm, **_rate(rate)}
        for cell in record.cells
        for arm, rate in (("before", cell.direct_before), ("after", cell.direct_after))
    ]
    return organisms + cells


def _label_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {
            "organism": cell.organism,
            "method": cell.method,
            "kept": cell.labels.kept,
            "offered_prompts": cell.labels.prompts,
            **_rate(cell.labels.misaligned, "misaligned_"),
            "mean_tokens": cell.labels.mean_tokens,
            "mean_logprob": cell.labels.mean_logprob,
        }
        for cell in record.cells
        if cell.labels is not None
    ]


def _prediction_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {
            "organism": cell.organism,
            "method": cell.method,
            "predicted": cell.shift.prediction.value,
            "predicted_low": cell.shift.prediction.low,
            "predicted_high": cell.shift.prediction.high,
            "predicted_sign": cell.shift.prediction.predicted_sign,
            "basis": cell.shift.prediction.basis,
            "observed": main.value if (main := cell.differences.get(MAIN_VIEW)) else None,
            **{
                name: value
                for term_name, term in cell.shift.terms.items()
                for name, value in (
                    (term_name, term.value),
                    (f"{term_name}_low", term.low),
                    (f"{term_name}_high", term.high),
                )
            },
            "kl": cell.shift.kl.sequence.value if cell.shift.kl else None,
            "kl_per_token": cell.shift.kl.token.value if cell.shift.kl else None,
            "kl_status": cell.shift.kl.status if cell.shift.kl else None,
        }
        for cell in record.cells
        if cell.shift is not None
    ]


def _training_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {
            "organism": cell.organism,
            "method": cell.method,
            "steps": cell.training.steps,
            "seconds": cell.training.seconds,
            "first_loss": cell.training.first_loss,
            "last_loss": cell.training.last_loss,
            "tokens": cell.training.tokens,
            "cell_seconds": cell.seconds,
        }
        for cell in record.cells
        if cell.training is not None
    ]


def _type_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {
            "organism": cell.organism,
            "method": cell.method,
            "decoding": one.decoding,
            "type": one.type,
            "corrected_before": one.corrected_before,
            "corrected_after": one.corrected_after,
            "corrected_low": one.change.low if one.change and one.change.value is not None else None,
            "corrected_high": one.change.high if one.change and one.change.value is not None else None,
            "published_before": one.published_before,
            "published_after": one.published_after,
            "prompts": one.prompts,
            "needs_judge": one.needs_judge,
        }
        for cell in record.cells
        for one in cell.type_scores
    ]


def _example_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {
            "organism": cell.organism,
            "method": cell.method,
            "prompt": example.prompt,
            "before": example.before,
            "after": example.after,
            "verdict_before": example.verdict_before,
            "verdict_after": example.verdict_after,
        }
        for cell in record.cells
        for example in cell.examples
    ]


def _model_rows(record: StudyRecord) -> list[dict[str, object]]:
    return [
        {
            "model": model.name,
            "source": model.source,
            "parameters": model.parameters,
            **_rate(model.direct_accuracy, "direct_"),
            "pretraining_seconds": model.pretraining_seconds,
            "pretraining_tokens": model.pretraining_tokens,
        }
        for model in record.base_models
    ]
