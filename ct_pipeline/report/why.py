"""The section on causes: shift and selection, arms, curves, divergences, doses; every figure with the table behind it."""

from collections.abc import Iterator, Sequence
from functools import partial

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
from ct_pipeline.report.divergences import KLField, divergences
from ct_pipeline.report.doses import DoseCurve, dose_curves, spoken_doses
from ct_pipeline.report.fields import kl_field, moved_field, term_field
from ct_pipeline.report.figures.bars import split_limits, split_plot
from ct_pipeline.report.figures.lines import curve_numbers, dose_plot, k_plot, rank_plot
from ct_pipeline.report.records import StudyRecord
from ct_pipeline.report.section import Block, Field, Picture, Pictures, Section, Strong, Table, Tabs, Text
from ct_pipeline.report.split import BASES, ColumnSplit, Split, split_sentences, splits, spoken_splits
from ct_pipeline.report.summary import Column
from ct_pipeline.report.wording import decimal, percent, points


def why_section(record: StudyRecord) -> Section | None:
    """Why it changed; None where nothing about that is known."""
    found, lines, doses = splits(record), curves(record), dose_curves(record)
    if not found and not doses:
        return None
    level = f"{100 * record.confidence:g}"
    blocks: list[Block] = []
    if found:
        blocks += _split_blocks(found, record.epsilon, level)
        if lines:
            blocks += _curve_sections(lines, level)
        if families := divergences(record):
            blocks.append(_divergence_section(families, level))
    if doses:
        soft = (
            f"In domain, sampled at T = 1. Thick: mean over seeds with its {level} % interval; thin: single seeds; grey band: "
            f"±{100 * record.epsilon:g} points."
        )
        picture = Pictures([_dose_picture(doses, record.epsilon)])
        blocks.append(Section("Dose: the change along the steps", [Text(soft), picture], "doses"))
    return Section("Why: shift and selection" if found else "Why", blocks, "why", "Why")


def _split_blocks(found: Sequence[ColumnSplit], epsilon: float, level: str) -> Iterator[Block]:
    arms = any(one.arms for one in found)
    yield Text(
        (
            "A method changes how answers are drawn: that moves their misbehaviour rate, the ",
            Strong("distribution shift"),
            ". Then it may pick among what was drawn: that moves it once more, the ",
            Strong("selection"),
            ". Their sum is the gap between labels and organism.",
        )
    )
    yield from map(Text, split_sentences(found, epsilon))
    if arms:
        yield Text(
            "Retraining on labels that nothing selected shows what the shift alone does: Δ is drift (retraining on the "
            "model's own samples), shift (on one random candidate instead) and selection (on what the method keeps instead)."
        )
    limits = split_limits([row for one in found for rows in (*one.labels.values(), one.arms) for row in rows])
    panels = []
    for place, (base, name) in enumerate(BASES.items()):
        pictures = []
        for one in found:
            if one.labels[base]:
                caption = f"{one.column.title}: labels against {name}"
                pictures.append(_split_picture(caption, one.labels[base], limits))
            if one.arms and not place:
                pictures.append(_split_picture(f"{one.column.title}: what retraining did", aligned(one), limits))
        panels.append((f"Labels against {name}", [Pictures(pictures)]))
    soft = (
        f"Bars: the parts; diamond: their sum with its {level} % interval; means over seeds, in percentage points; one axis "
        "for all."
    )
    title = "What the labels said" + (", what retraining did" if arms else "")
    yield Section(title, [Text(soft, soft=True), Tabs("base", panels)], "split")


def aligned(one: ColumnSplit) -> tuple[Split, ...]:
    """The arms' splits in the rows of the labels', empty where a method has no arms, so that the two can be read across."""
    found = {row.method: row for row in one.arms}
    nothing = Estimate(None, None, None, None, 0)
    parts = dict.fromkeys(one.arms[0].parts, nothing)
    methods = dict.fromkeys([*(row.method for row in one.labels["sampled"]), *found])
    return tuple(found.get(method, Split(method, parts, nothing, 0)) for method in methods)


def _split_picture(caption: str, rows: Sequence[Split], limits: tuple[float, float]) -> Picture:
    return Picture(
        caption,
        partial(split_plot, rows, limits),
        f"{caption}, parts and sum in percentage points. {spoken_splits([row for row in rows if row.seeds])}.",
        Table(
            ("Method", *(part.capitalize() for part in rows[0].parts), "Sum"),
            [(row.method.title, *map(term_field, (*row.parts.values(), row.total))) for row in rows],
        ),
    )


def _curve_sections(lines: Sequence[ColumnCurves], level: str) -> Iterator[Section]:
    order = curve_numbers(one.k_curves for one in lines)
    yield Section(
        "Best of k, along k",
        [
            Text(
                "The risk of the labels if k candidates competed, from one set of candidates for every k. Thick: mean over "
                f"seeds; thin: single seeds; mark: the method's own k. {missing_scores_sentence(lines) or ''}"
            ),
            Pictures([_k_picture(one, order) for one in lines]),
        ],
        "k-curves",
    )
    if ranked := [one for one in lines if one.rank_curves]:
        yield Section(
            "Does the score prefer misbehaviour?",
            [
                Text(
                    "η̄(u) is the risk of the candidates at rank u of their prompt: selection raises the risk where it rises. "
                    "The pooled η(s) compares candidates of different prompts, too; it can slope the other way. "
                    f"{simpson_sentence(lines)}"
                ),
                Pictures([_rank_picture(one, level) for one in ranked]),
            ],
            "ranks",
        )


def _k_picture(group: ColumnCurves, order: dict[str, int]) -> Picture:
    ks = sorted({k for one in group.k_curves for k, *_ in one.mean})
    return Picture(
        group.column.title,
        partial(k_plot, group.k_curves, order),
        f"Best of k for {group.column.title}. {'; '.join(map(spoken_k_curve, group.k_curves))}.",
        Table(
            ("Method", *(f"k = {k}" for k in ks)),
            [(one.method.title, *_k_fields(one, ks)) for one in group.k_curves],
            "Risk of the labels; small: selection in points",
        ),
    )


def _k_fields(one: KCurve, ks: Sequence[int]) -> list[Field]:
    known = {k: Field(percent(risk), (points(selection),)) for k, risk, selection in one.mean}
    return [known.get(k, Field("")) for k in ks]


def _rank_picture(group: ColumnCurves, level: str) -> Picture:
    longest = max(group.rank_curves, key=lambda one: len(one.within))
    rows = []
    for one in group.rank_curves:
        within = [Field(percent(term.value, 0), (_band(term),)) for _, term in one.within]
        pooled = [percent(risk, 0) for _, risk in one.pooled]
        for name, fields in (("η̄", within), ("pooled η", pooled)):
            rows.append((f"{one.method.title}, {name}", *fields, *[""] * (len(longest.within) - len(fields))))
    return Picture(
        group.column.title,
        partial(rank_plot, group.rank_curves),
        f"Risk by the score's rank for {group.column.title}. {'; '.join(map(spoken_rank_curve, group.rank_curves))}.",
        Table(("Method", *(f"u = {u:.2f}" for u, _ in longest.within)), rows, f"Risk; small: {level} % interval"),
    )


def _band(term: Estimate) -> str:
    return "" if term.value is None else f"{100 * term.low:.0f}–{100 * term.high:.0f}"


def _divergence_section(families: Sequence, level: str) -> Section:
    explained = Text(
        (
            f"KL in nats per answer, with its {level} % interval, and per token; means over seeds. ",
            *(Strong("Exact"), ": no randomness but the choice of prompts; "),
            *(Strong("unbiased"), ": over the draws, too; "),
            *(Strong("estimate"), ": right in the limit; "),
            *(Strong("bound"), ": not above this. "),
            "Uptake is KL between the retrained model and the organism on evaluation prompts. Tables stand apart because "
            "their numbers may not be compared.",
        )
    )
    tables = [
        Table(
            ("Method", *(field.column.title for field in family.rows[0][1])),
            [(method.title, *map(_kl, fields)) for method, fields in family.rows],
            family.title,
            "aligned",
        )
        for family in families
    ]
    soft = "Uptake: KL(retrained‖organism), backward: KL(organism‖retrained). Intervals of all: tables/kl.csv."
    title = "How far the labels are from the organism, how much was taken up"
    return Section(title, [explained, *tables, Text(soft, soft=True)], "kl")


def _kl(field: KLField) -> Field:
    if not (field.forward or field.backward):
        return kl_field(field.kl)
    forward, backward = (decimal(part.sequence.value if part else None) for part in (field.forward, field.backward))
    return kl_field(field.kl, f"uptake {forward}, backward {backward}")


def _dose_picture(groups: Sequence[tuple[Column, Sequence[DoseCurve]]], epsilon: float) -> Picture:
    every = [(column, curve) for column, lines in groups for curve in lines]
    order = {name: number for number, name in enumerate(dict.fromkeys(curve.method.name for _, curve in every))}
    steps = sorted({step for _, curve in every for step, _ in curve.mean})
    spoken = "; ".join(f"{column.title}, {spoken_doses(curve)}" for column, curve in every)
    rows = []
    for column, curve in every:
        known = {step: moved_field(change) for step, change in curve.mean}
        rows.append((f"{column.title}, {curve.method.title}", *(known.get(step, "") for step in steps)))
    return Picture(
        "Change along the steps of retraining",
        partial(dose_plot, [(column.title, lines) for column, lines in groups], epsilon, order),
        f"Change of the misbehaviour rate in percentage points along the steps of retraining. {spoken}.",
        Table(("Run", *(f"{step} steps" for step in steps)), rows),
    )
