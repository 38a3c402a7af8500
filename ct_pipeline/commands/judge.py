"""`ct-pipeline judge check`: what a judge says of answers labelled by hand, how often it errs, what it costs."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ct_pipeline.analysis.judge_error import JudgeError
from ct_pipeline.analysis.krippendorff import Alpha, krippendorff_alpha
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.judges.calibration import Calibration, calibrate, read_labelled
from ct_pipeline.judges.http_judge import HttpRubricJudge
from ct_pipeline.judges.protocol import Judge
from ct_pipeline.measurement.judging import open_judge, spending_of
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.judge import HttpJudge, JudgeFile
from ct_pipeline.settings.load import load_judge
from ct_pipeline.store.disk import disk_errors

MOST_MISSING = 0.5
"""Share of answers without a verdict above which a calibration fails."""
LEVELS = {
    "score": "ordinal",
    "convincing": "ordinal",
    "specific": "ordinal",
    "aligned": "interval",
    "coherent": "interval",
}
"""Level of measurement of each scale that is more than a verdict."""


def check_judge(settings: Path, labelled: Path, against: Path | None, out: Path | None, console: Console) -> None:
    """Prints error rates with exact intervals, missing verdicts, cost, and agreement with another judge.

    Raises:
        UserError: a mistake in a file, or a judge that cannot be reached.
    """
    files = [load_judge(path) for path in (settings, against) if path is not None]
    rows = read_labelled(labelled)
    judges = [open_judge(file, home() / "judge-replies") for file in files]
    found = [calibrate(judge, rows) for judge in judges]
    for file, judge, calibration in zip(files, judges, found, strict=True):
        console.print(_table(file.name, calibration))
        console.print(*_notes(file, judge, calibration), sep="\n", markup=False, soft_wrap=True)
    alphas = _agreement(found) if against is not None else {}
    for name, alpha in alphas.items():
        console.print(_agreed(name, alpha), soft_wrap=True)
    if out is not None:
        with disk_errors(out.parent):
            documents = [_document(*each) for each in zip(files, judges, found, strict=True)]
            agreement = {name: asdict(alpha) for name, alpha in alphas.items()}
            out.write_text(json.dumps({"judges": documents, "agreement": _plain(agreement)}, indent=2) + "\n")
    for file, calibration in zip(files, found, strict=True):
        _require_verdicts(file.name, calibration)


def _require_verdicts(name: str, calibration: Calibration) -> None:
    """UserError where most verdicts are missing: what is printed then stands on the few that are left."""
    missing, rows = sum(verdict is None for verdict in calibration.verdicts), len(calibration.rows)
    if rows and missing > MOST_MISSING * rows:
        problem, count = max(
            calibration.problems.items(), key=lambda each: each[1], default=("no reason given", missing)
        )
        raise UserError(
            f"judge {name}: {missing} of {rows} answers have no verdict, {count} because {problem}; its error rates stand on "
            "the others alone and say nothing"
        )


def _table(name: str, calibration: Calibration) -> Table:
    table = Table(title=f"Judge {name} on {len(calibration.rows):,} labelled answers", title_justify="left")
    for column in ("arm", "TPR", "FPR", "TPR - FPR", "no verdict"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, error in {"all": calibration.error, **calibration.by_arm}.items():
        sides = (error.true_positive, error.false_positive)
        missing = f"{sum(side.missing for side in sides)} of {sum(side.rows for side in sides)}"
        table.add_row(arm, *map(_share, sides), _slope(error), missing)
    return table


def _share(side: Rate) -> str:
    if side.value is None:
        return "unknown"
    return f"{100 * side.value:.1f} % [{100 * side.low:.1f}, {100 * side.high:.1f}] of {side.prompts}"


def _slope(error: JudgeError) -> str:
    return "unknown" if error.slope is None else f"{error.slope:.2f} ± {error.slope_error:.2f}"


def _notes(file: JudgeFile, judge: Judge, calibration: Calibration) -> list[str]:
    lines = [f"No verdict on {count}: {problem}" for problem, count in calibration.problems.items()]
    if calibration.differential.warning:
        lines.append(f"Warning: {calibration.differential.warning}")
    if isinstance(judge, HttpRubricJudge) and isinstance(file.judge, HttpJudge):
        spent, prices = judge.spent, file.judge.prices
        cost = spent.cost(prices)
        lines.append(
            f"{spent.replies:,} replies and {spent.cached:,} kept ones, {spent.requests:,} requests, "
            f"{spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens, "
            f"cost {'unknown' if cost is None else f'{cost:.4f}'}"
        )
    return lines


def _agreement(found: list[Calibration]) -> dict[str, Alpha]:
    """Alpha of the verdicts, and of every scale that both judges have."""
    alphas = {"verdict": krippendorff_alpha([each.verdicts for each in found], "nominal")}
    for name, level in LEVELS.items():
        scores = [[judgement.scores.get(name) for judgement in each.judgements] for each in found]
        if all(any(name in judgement.scores for judgement in each.judgements) for each in found):
            alphas[name] = krippendorff_alpha(scores, level)
    return alphas


def _agreed(name: str, alpha: Alpha) -> str:
    told = "unknown" if alpha.value is None else f"{alpha.value:.3f} [{alpha.low:.3f}, {alpha.high:.3f}]"
    return f"Krippendorff's alpha of {name} ({alpha.level}): {told} on {alpha.units:,} answers"


def _document(file: JudgeFile, judge: Judge, calibration: Calibration) -> dict[str, object]:
    return {"name": file.name, **calibration.as_json(), "spent": spending_of(file, judge)}


def _plain(document: object) -> object:
    """NaN as null."""
    if isinstance(document, dict):
        return {name: _plain(value) for name, value in document.items()}
    return None if isinstance(document, float) and document != document else document
