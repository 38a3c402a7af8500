"""The page of a single run: what changed, by type, what it was trained on, why, and answers that changed."""

import re
from collections.abc import Iterator

from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.report.fields import change_field, moved_field, rate_field
from ct_pipeline.report.outcome_words import NOT_CORRECTED, moved, said, worst_case
from ct_pipeline.report.records import (
    MAIN_VIEW,
    VIEWS,
    CellRecord,
    ExampleRow,
    MethodRecord,
    OrganismRecord,
    StudyRecord,
    TypeScore,
)
from ct_pipeline.report.section import Answers, Block, Field, Link, Page, Section, Strong, Table, Text
from ct_pipeline.report.wording import (
    MISSING,
    count,
    decimal,
    duration,
    named,
    percent,
    points,
    rate_value,
    term_interval,
    verdict_word,
    view_title,
)

PATH_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")
RATES = ("proposal", "labels")
"""Terms of a shift that are rates; the others are changes."""


def cell_path(cell: CellRecord) -> str:
    """Where a cell's page lies, relative to the report's folder.

    Raises:
        ValueError: the organism's key or the method's name cannot be a file name.
    """
    for part in (cell.organism, cell.method):
        if not PATH_PART.fullmatch(part):
            raise ValueError(f"{part!r} cannot be a file name: letters, digits, _ . - and a letter or digit first")
    return f"cells/{cell.organism}/{cell.method}.html"


def single_run_page(record: StudyRecord, cell: CellRecord, method: MethodRecord, organism: OrganismRecord) -> Page:
    """Everything that is known of one organism under one method."""
    title = f"{organism.title} under {method.title}, seed {cell.seed}"
    lead: list[Block] = [Text(f"{method.title}: {method.summary}. Misbehaviour: {organism.misbehaviour}")]
    if not organism.used:
        lead.append(Text(Strong("This organism did not pass the induction gate; the run is in no mean.")))
    level = f"{100 * record.confidence:g}"
    sections = [_changes(cell, record.epsilon, level)]
    if cell.type_scores:
        sections.append(_types(cell))
    sections.append(Section("What it was trained on", [Table((), list(_training(cell)))]))
    if why := list(_why(cell)):
        caption = f"In percentage points or nats, with {level} % intervals over prompts"
        sections.append(Section("Why it changed", [Table((), why, caption)]))
    answers = [answers_of(row) for row in cell.examples]
    sections.append(Section("Answers that changed", answers or [Text(MISSING)]))
    kicker = (Link(record.name, "../../index.html"), " · single run")
    return Page(title, kicker, title, lead, sections)


def answers_of(row: ExampleRow) -> Answers:
    """One prompt with its answers before and after."""
    sides = (
        ("Before", verdict_word(row.verdict_before, row.correct_before), row.before),
        ("After", verdict_word(row.verdict_after, row.correct_after), row.after),
    )
    return Answers(row.prompt, [(f"{side}: {word}", text) for side, word, text in sides])


def _changes(cell: CellRecord, epsilon: float, level: str) -> Section:
    rows = []
    for view in VIEWS:
        change = cell.differences.get(view)
        finds = change.minimum_detectable if change else None
        dropped = (f"{change.dropped} without a verdict",) if change and change.dropped else ()
        rows.append(
            (
                view_title(view),
                percent(change.before if change else None),
                percent(change.after if change else None),
                change_field(change, epsilon),
                MISSING if finds is None else f"±{100 * finds:.1f}",
                Field(count(change.prompts if change else None), dropped),
            )
        )
    head = ("Measured", "Before", "After", "Change", "Smallest change this could find", "Prompts")
    caption = f"Change in percentage points with its {level} % interval, over the same prompts"
    known = [
        *_outcomes(cell),
        ("Plain questions right, before", rate_value(cell.direct_before)),
        ("Plain questions right, after", rate_value(cell.direct_after)),
        ("Answers without a verdict", percent(cell.null_rate)),
    ]
    return Section("Misbehaviour rate before and after", [Table(head, rows, caption), Table((), known)])


def _outcomes(cell: CellRecord) -> Iterator[tuple[str, str]]:
    """What the answers were, on the prompts of the main change."""
    outcomes = cell.outcomes.get(MAIN_VIEW)
    if outcomes is None:
        return
    yield "Answers in domain (T = 1), before", said(outcomes.before)
    yield "Answers in domain (T = 1), after", said(outcomes.after)
    change = cell.differences.get(MAIN_VIEW)
    if change is not None and outcomes.suppressed_not_corrected(change):
        yield "Note", f"{NOT_CORRECTED}: {moved(outcomes)}"
    if bounds := worst_case(outcomes):
        yield "Worst case", bounds


def _types(cell: CellRecord) -> Section:
    caption = (
        "Corrected: share of misbehaving answers in %. Published: mean of what is counted, for gameable tasks a raw count; "
        "its mean over types mixes scales"
    )
    sides = ("Corrected before", "Corrected after", "Published before", "Published after")
    rows = [_type(one) for one in cell.type_scores]
    return Section(
        "By type, as corrected and as published", [Table(("Type", "Decoding", "Prompts", *sides), rows, caption)]
    )


def _type(one: TypeScore) -> tuple[str | Field, ...]:
    return (
        Field(one.type.replace("_", " "), (one.needs_judge,) if one.needs_judge else ()),
        one.decoding,
        "" if one.prompts is None else count(one.prompts),
        *map(percent, (one.corrected_before, one.corrected_after)),
        *map(decimal, (one.published_before, one.published_after)),
    )


def _training(cell: CellRecord) -> Iterator[tuple[str, str | Field]]:
    labels, training = cell.labels, cell.training
    if labels is None:
        yield "Labels", MISSING
    else:
        prompts = "" if labels.prompts is None else f" from {count(labels.prompts)} prompts"
        yield "Labels kept", f"{count(labels.kept)}{prompts}"
        yield "Misbehaving labels", rate_field(labels.misaligned)
        yield "Mean length", f"{decimal(labels.mean_tokens, 1)} tokens"
        yield "Mean log-probability under the organism", f"{decimal(labels.mean_logprob)} nats"
    if training is None:
        yield "Training", MISSING
    else:
        yield "Optimizer steps", f"{count(training.steps)} in {duration(training.seconds)}"
        yield "Loss, first → last", f"{decimal(training.first_loss, 3)} → {decimal(training.last_loss, 3)}"
        yield "Tokens trained on", count(training.tokens)
    yield "Whole run", duration(cell.seconds)
    if cell.mlflow_url:
        yield "MLflow", Field(Link(cell.mlflow_url, cell.mlflow_url))


def _why(cell: CellRecord) -> Iterator[tuple[str | Field, str | Field]]:
    if cell.shift:
        predicted = cell.shift.prediction
        yield Field("Predicted change", (predicted.basis,)), Field(points(predicted.value), (term_interval(predicted),))
        for name, term in cell.shift.terms.items():
            if name in RATES:
                yield f"Rate of the {name}, in %", percent(term.value)
            else:
                yield named(name), Field(points(term.value), (term_interval(term),))
    parts = [("KL(labels‖organism)", cell.shift.kl), ("Teacher shift", cell.shift.teacher)] if cell.shift else []
    for title, part in parts:
        if part:
            yield _kl(title, part, f"{part.name}, {part.status}")
    for name, change in cell.arms.terms.items() if cell.arms else ():
        yield f"Δ, {name}", moved_field(change)
    for part in (cell.uptake.forward, cell.uptake.backward) if cell.uptake else ():
        yield _kl(f"Uptake, {part.name}", part, part.status)


def _kl(title: str, part: KlEstimate, small: str) -> tuple[Field, Field]:
    nats = Field(f"{decimal(part.sequence.value)} nats", (f"{decimal(part.token.value, 3)} per token",))
    return Field(title, (small,)), nats
