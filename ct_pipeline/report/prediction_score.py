"""What the labels predicted of each cell's change, beside what came."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from ct_pipeline.analysis.prediction import Score, Scores, score_predictions
from ct_pipeline.report.figures.scatter import prediction_plot
from ct_pipeline.report.records import MAIN_VIEW, CellRecord, StudyRecord
from ct_pipeline.report.section import Field, Picture, Pictures, Section, Table, Text
from ct_pipeline.report.summary import columns
from ct_pipeline.report.wording import MISSING, absent, decimal, joined, percent

REGULARIZER = "regularizer"
NAMED_COPIES = 3
"""Pairs of methods that are named as copies, the most frequent ones."""
DRAWN_LAWS = ("proposal", "best of k", "refinement")
"""KL of these grows with what sampling adds; that of point masses grows with length, and stands on no axis with it."""


@dataclass(frozen=True)
class PredictionScore:
    """Predictions of one family of methods, scored.

    Attributes:
        title: which family.
        cells: those with a prediction and a change, of the organisms that are used.
        scores: over them.
    """

    title: str
    cells: tuple[CellRecord, ...]
    scores: Scores


def prediction_scores(record: StudyRecord) -> tuple[PredictionScore, ...]:
    """Label methods and regularizers, each if it has a cell; apart, since their predictions rest on other things."""
    used = {key for column in columns(record) for key in column.used}
    roles = {method.name: method.role for method in record.methods}
    families = {"Methods that train on labels": [], "Regularizers": []}
    for cell in record.cells:
        change = cell.differences.get(MAIN_VIEW)
        if cell.organism in used and cell.shift and change is not None and change.value is not None:
            regularizer = roles[cell.method] == REGULARIZER
            families["Regularizers" if regularizer else "Methods that train on labels"].append(cell)
    return tuple(
        PredictionScore(title, tuple(cells), _scores(cells, record.confidence))
        for title, cells in families.items()
        if cells
    )


def prediction_rows(cells: Sequence[CellRecord]) -> pd.DataFrame:
    """One row per cell: model, kind, method, seed, predicted and observed with standard errors, kl of drawn labels in nats."""
    return pd.DataFrame(
        [
            {
                "model": cell.model,
                "kind": cell.kind,
                "method": cell.method,
                "seed": cell.seed,
                "predicted": cell.shift.prediction.value,
                "predicted_se": cell.shift.prediction.standard_error,
                "observed": cell.differences[MAIN_VIEW].value,
                "observed_se": cell.differences[MAIN_VIEW].standard_error,
                "kl": kl.sequence.value if (kl := cell.shift.kl) and kl.name in DRAWN_LAWS else None,
            }
            for cell in cells
        ]
    )


def prediction_sentences(families: Sequence[PredictionScore]) -> list[str]:
    """How well changes were predicted, one sentence per family."""
    return [text for one in families for text in (_sentence(one.title, one.scores.overall), *_distinct(one.scores))]


def prediction_section(record: StudyRecord) -> Section | None:
    """What the labels predicted beside what came, a figure per family; None where nothing was predicted."""
    families = prediction_scores(record)
    if not families:
        return None
    sentences = prediction_sentences(families)
    return Section(
        "What the labels predicted",
        [
            Text(
                "Before anything was retrained, the misbehaviour rate of each method's labels less that of the organism's own "
                "samples was put down as the prediction of the change; for regularizers, the organism's rate on clean prompts "
                "less that on wrapped ones. λ is how much of the predicted change came."
            ),
            *map(Text, sentences),
            Pictures([_picture(one, _sentence(one.title, one.scores.overall)) for one in families]),
            Text(
                "The single predictions, the parts of each (shift, selection) and the labels' KL: tables/predictions.csv.",
                soft=True,
            ),
        ],
        "predicted",
        "Predicted",
    )


def _distinct(scores: Scores) -> list[str]:
    """What is left where copies count once; nothing where there are none."""
    if not scores.copies:
        return []
    clear, slope = scores.distinct.clear_signs, scores.distinct.slope
    named = [
        f"{copy.replace('_', ' ')} repeats {first.replace('_', ' ')} in {count}"
        for (first, copy), count in list(scores.copies.items())[:NAMED_COPIES]
    ]
    text = f"Some predictions are not new: by organisms, {joined(named)}. The distinct ones"
    text += f" are right in {percent(clear.prediction.value, 0)} of the {clear.prediction.cells} runs in which both are clear"
    if clear.best_constant is not None:
        text += f", where “always {clear.best_constant[0]}” would be right in {percent(clear.best_constant[1], 0)}"
    if not absent(slope.value):
        text += f"; λ is {decimal(slope.value)} corrected for the predictions' errors, {decimal(slope.attenuated)} uncorrected"
        if not absent(slope.low):
            text += f" (interval over organisms and methods {decimal(slope.low)} to {decimal(slope.high)})"
    return [text + "."]


def _picture(one: PredictionScore, sentence: str) -> Picture:
    scores = {"all": one.scores.overall, "distinct predictions": one.scores.distinct, **one.scores.kinds}
    return Picture(
        one.title,
        partial(prediction_plot, one.cells, one.scores.overall.slope.value),
        f"Observed change against the predicted one, {len(one.cells)} runs. {sentence}",
        Table(
            (
                "Organisms",
                "Right sign",
                "Where both clear",
                "Best constant guess there",
                "λ, corrected",
                "λ, uncorrected",
            ),
            [(kind.replace("_", " "), *_fields(score)) for kind, score in scores.items()],
        ),
        folded=False,
    )


def _fields(score: Score) -> tuple[Field, ...]:
    slope, signs = score.slope, (score.all_signs.prediction, score.clear_signs.prediction)
    ends = () if slope.low is None else (f"{decimal(slope.low)} to {decimal(slope.high)}",)
    return (
        *(Field(percent(sign.value, 0), (f"of {sign.cells}",)) for sign in signs),
        _constant(score),
        Field(decimal(slope.value), ends),
        Field(decimal(slope.attenuated)),
    )


def _constant(score: Score) -> Field:
    """The better of "always suppresses" and "always amplifies" where both are clear."""
    best = score.clear_signs.best_constant
    return Field(MISSING) if best is None else Field(percent(best[1], 0), (f"always {best[0]}",))


def _scores(cells: Sequence[CellRecord], confidence: float) -> Scores:
    return score_predictions(prediction_rows(cells), confidence=confidence, organism=("model", "kind", "seed"))


def _sentence(title: str, score: Score) -> str:
    signs, clear, slope = score.all_signs.prediction, score.clear_signs.prediction, score.slope
    parts = [f"{title}: the sign of the change was predicted in {percent(signs.value, 0)} of {signs.cells} runs"]
    if clear.cells:
        parts.append(f"in {percent(clear.value, 0)} of the {clear.cells} in which both are clear")
    text = ", ".join(parts)
    if not absent(slope.value):
        text += f"; the change was {decimal(slope.value)} of the predicted one"
        if not absent(slope.low):
            text += f" (interval {decimal(slope.low)} to {decimal(slope.high)})"
    if not absent(score.sizes.kl.value):
        text += (
            f". Over the {score.sizes.kl.cells} runs whose labels are drawn, its size goes with the predicted size by a rank "
            f"correlation of {decimal(score.sizes.prediction.value)}, with the labels' KL by {decimal(score.sizes.kl.value)}"
        )
    return text + "."
