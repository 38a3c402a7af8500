"""The section on causes: each picture with a text that says the same and the table behind it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.report.curves import (
    ColumnCurves,
    KCurve,
    curves,
    missing_scores_sentence,
    simpson_sentence,
    spoken_k_curve,
    spoken_rank_curve,
)
from ct_pipeline.report.divergences import divergences
from ct_pipeline.report.doses import DoseCurve, dose_curves, spoken_doses
from ct_pipeline.report.figures.bars import split_limits, split_plot
from ct_pipeline.report.figures.lines import curve_numbers, dose_plot, k_plot, rank_plot
from ct_pipeline.report.figures.style import as_svg
from ct_pipeline.report.records import StudyRecord
from ct_pipeline.report.split import BASES, ColumnSplit, Split, split_sentences, splits, spoken_splits
from ct_pipeline.report.summary import Column
from ct_pipeline.report.wording import change_interval, percent, points, term_interval


@dataclass(frozen=True)
class Field:
    """One field of a table: a number as text, and what stands small below it."""

    text: str
    small: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    `address` is a data address, `alt` a text with the same numbers, `rows` the table behind it: row's name and fields.
    """

    caption: str
    address: str
    alt: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Field, ...]], ...]


def data_address(svg: str) -> str:
    """An SVG document as the address of an image."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def why_context(record: StudyRecord) -> dict[str, object]:
    """What `why.html.j2` shows; every list may be empty."""
    found, lines, doses = splits(record), curves(record), dose_curves(record)
    shown = [row for one in found for rows in (*one.labels.values(), one.arms) for row in rows]
    limits = split_limits(shown)
    order = curve_numbers(one.k_curves for one in lines)
    return {
        "sentences": split_sentences(found, record.epsilon),
        "bases": [(name, _label_pictures(found, base, limits)) for base, name in BASES.items()],
        "has_labels": any(one.labels[base] for one in found for base in BASES),
        "arms": _arm_pictures(found, limits),
        "k_curves": [_k_picture(one, order) for one in lines],
        "missing_scores": missing_scores_sentence(lines),
        "rank_curves": [_rank_picture(one) for one in lines if one.rank_curves],
        "simpson": simpson_sentence(lines),
        "divergences": divergences(record),
        "doses": _dose_picture(doses, record.epsilon) if doses else None,
    }


def _label_pictures(found: Sequence[ColumnSplit], base: str, limits: tuple[float, float]) -> dict[Column, Picture]:
    return {
        one.column: _split_picture(f"{one.column.title}: labels against {BASES[base]}", one.labels[base], limits)
        for one in found
        if one.labels[base]
    }


def _arm_pictures(found: Sequence[ColumnSplit], limits: tuple[float, float]) -> dict[Column, Picture]:
    return {
        one.column: _split_picture(f"{one.column.title}: what retraining did", aligned(one), limits)
        for one in found
        if one.arms
    }


def aligned(one: ColumnSplit) -> tuple[Split, ...]:
    """The arms' splits in the rows of the labels', empty where a method has no arms, so that the two can be read across."""
    found = {row.method: row for row in one.arms}
    nothing = Estimate(None, None, None, None, 0)
    parts = dict.fromkeys(one.arms[0].parts, nothing)
    methods = dict.fromkeys([*(row.method for row in one.labels["sampled"]), *found])
    return tuple(found.get(method, Split(method, parts, nothing, 0)) for method in methods)


def _split_picture(caption: str, rows: Sequence[Split], limits: tuple[float, float]) -> Picture:
    parts = tuple(rows[0].parts)
    return Picture(
        caption=caption,
        address=data_address(as_svg(split_plot(rows, limits))),
        alt=f"{caption}, parts and sum in percentage points. {spoken_splits([row for row in rows if row.seeds])}.",
        head=("Method", *(part.capitalize() for part in parts), "Sum"),
        rows=tuple(
            (row.method.title, tuple(_term_field(term) for term in (*row.parts.values(), row.total))) for row in rows
        ),
    )


def _term_field(term: Estimate) -> Field:
    return Field(points(term.value), term_interval(term) if term.standard_error else "")


def _k_picture(group: ColumnCurves, order: dict[str, int]) -> Picture:
    ks = sorted({k for one in group.k_curves for k, *_ in one.mean})
    return Picture(
        caption=group.column.title,
        address=data_address(as_svg(k_plot(group.k_curves, order))),
        alt=f"Best of k for {group.column.title}. " + "; ".join(spoken_k_curve(one) for one in group.k_curves) + ".",
        head=("Method", *(f"k = {k}" for k in ks)),
        rows=tuple((one.method.title, _k_fields(one, ks)) for one in group.k_curves),
    )


def _k_fields(one: KCurve, ks: Sequence[int]) -> tuple[Field, ...]:
    known = {k: Field(percent(risk), points(selection)) for k, risk, selection in one.mean}
    return tuple(known.get(k, Field("")) for k in ks)


def _rank_picture(group: ColumnCurves) -> Picture:
    longest = max(group.rank_curves, key=lambda one: len(one.within))
    rows = []
    for one in group.rank_curves:
        within = tuple(Field(percent(term.value, 0), _band(term)) for _, term in one.within)
        rows.append((f"{one.method.title}, η̄", within))
        rows.append((f"{one.method.title}, pooled η", tuple(Field(percent(risk, 0)) for _, risk in one.pooled)))
    return Picture(
        caption=group.column.title,
        address=data_address(as_svg(rank_plot(group.rank_curves))),
        alt=f"Risk by the score's rank for {group.column.title}. "
        + "; ".join(spoken_rank_curve(one) for one in group.rank_curves)
        + ".",
        head=("Method", *(f"u = {u:.2f}" for u, _ in longest.within)),
        rows=tuple(rows),
    )


def _band(term: Estimate) -> str:
    return "" if term.value is None else f"{100 * term.low:.0f}–{100 * term.high:.0f}"


def _dose_picture(groups: Sequence[tuple[Column, Sequence[DoseCurve]]], epsilon: float) -> Picture:
    names = list(dict.fromkeys(curve.method.name for _, lines in groups for curve in lines))
    order = {name: number for number, name in enumerate(names)}
    steps = sorted({step for _, lines in groups for curve in lines for step, _ in curve.mean})
    rows = []
    for column, lines in groups:
        for curve in lines:
            known = {step: Field(points(change.value), change_interval(change)) for step, change in curve.mean}
            rows.append((f"{column.title}, {curve.method.title}", tuple(known.get(step, Field("")) for step in steps)))
    spoken = "; ".join(f"{column.title}, {spoken_doses(curve)}" for column, lines in groups for curve in lines)
    return Picture(
        caption="Change along the steps of retraining",
        address=data_address(as_svg(dose_plot([(c.title, lines) for c, lines in groups], epsilon, order))),
        alt=f"Change of the misbehaviour rate in percentage points along the steps of retraining. {spoken}.",
        head=("Run", *(f"{step} steps" for step in steps)),
        rows=tuple(rows),
    )
