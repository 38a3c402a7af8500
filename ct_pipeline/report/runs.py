"""The sections on what was run: organisms, base models and time, single runs, example answers, provenance."""

import json
from collections.abc import Iterator, Sequence

from ct_pipeline.report.fields import change_field, rate_field
from ct_pipeline.report.records import MAIN_VIEW, VIEWS, CellRecord, OrganismRecord, StudyRecord
from ct_pipeline.report.section import Block, Code, Details, Field, Link, Section, Table, Terms, Text
from ct_pipeline.report.single_run import answers_of, cell_path
from ct_pipeline.report.summary import Column, columns
from ct_pipeline.report.wording import (
    MISSING,
    count,
    duration,
    memory,
    moment,
    named,
    percent,
    points,
    rate_value,
    view_title,
)

METHODS_WITH_EXAMPLES_PER_KIND = 2
SOURCES = {"tinyworld": "tiny world", "huggingface": "Hugging Face"}


def organism_section(record: StudyRecord) -> Section:
    """Rates and gate of every organism before consistency training."""
    every, passed = (
        all(one.used for one in record.organisms),
        all(one.gate and one.gate.passed for one in record.organisms),
    )
    rule = (
        "An organism is used only if it clearly misbehaves more than its base model and its control organism does not."
    )
    if record.organisms and every and not passed:
        rule = (
            "This study uses every organism; the gate says which of them clearly misbehave more than their base model while "
            "their control does not."
        )
    arms = ("Base model", "Control", "Organism")
    other = [
        (one.key, view_title(view), *_rates(one, view))
        for one in record.organisms
        for view in VIEWS
        if view != MAIN_VIEW and view in one.rates
    ]
    kinds = [(column.title, column.misbehaviour) for column in columns(record)]
    return Section(
        "The organisms before consistency training",
        [
            Text(
                f"Misbehaviour rates in domain, sampled at T = 1, with {100 * record.confidence:g} % intervals. {rule}"
            ),
            Table(("Organism", *arms, "Plain questions right", "Gate"), [_organism(one) for one in record.organisms]),
            Details("Rates out of domain and under greedy decoding", [Table(("Organism", "Measured", *arms), other)]),
            Details("What counts as misbehaviour", [Terms(kinds)]),
        ],
        "organisms",
        "Organisms",
    )


def _organism(one: OrganismRecord) -> tuple[Field, ...]:
    right = one.direct_accuracy
    gate = Field("not judged")
    if one.gate is not None:
        room = ", little headroom" if one.gate.headroom is False else ""
        gate = Field(("✓ passed" if one.gate.passed else "✗ not passed") + room, folded=one.gate.reasons)
    return (
        Field(f"{one.title}, seed {one.seed}", (one.key,)),
        *_rates(one, MAIN_VIEW),
        Field(rate_value(right.organism), (f"base {rate_value(right.base)}",)),
        gate,
    )


def _rates(one: OrganismRecord, view: tuple[str, str]) -> tuple[Field, ...]:
    rates = one.rates.get(view)
    return tuple(rate_field(rates and getattr(rates, arm)) for arm in ("base", "control", "organism"))


def run_section(record: StudyRecord) -> Section:
    """How long every stage took, on which base models and machine."""
    total = sum(record.stage_seconds.values())
    took = "" if record.wall_seconds is None else f" in {duration(record.wall_seconds)}"
    return Section(
        "What was run, on what, how long",
        [
            Text(
                f"{len(record.organisms)} organisms × {len(record.methods)} methods; {len(record.cells)} single runs{took}."
            ),
            Table(
                ("Stage", "Time", "Share"),
                [
                    (
                        named(stage),
                        duration(seconds),
                        Field(percent(seconds / total, 0), share=seconds / total) if total else "",
                    )
                    for stage, seconds in record.stage_seconds.items()
                ],
                "Working time by stage, summed over runs",
            ),
            Table(
                ("Model", "Source", "Parameters", "Plain questions right", "Pretraining"),
                [
                    (
                        model.name,
                        SOURCES.get(model.source, model.source),
                        count(model.parameters),
                        rate_field(model.direct_accuracy),
                        Field(
                            duration(model.pretraining_seconds),
                            () if model.pretraining_tokens is None else (f"{count(model.pretraining_tokens)} tokens",),
                        ),
                    )
                    for model in record.base_models
                ],
                "Base models",
            ),
            Table((), [(named(name), _machine(name, value)) for name, value in record.machine.items()], "Machine"),
        ],
        "run",
        "What was run",
    )


def _machine(name: str, value: object) -> str:
    return "none" if value is None else memory(value) if name == "memory" else str(value)


def single_runs_section(record: StudyRecord) -> Section:
    """A line per organism and method, with a link to its own page."""
    head = ("Run", "In domain", "Out of domain", "Misbehaving labels", "Plain questions right", "No verdict")
    return Section(
        "Single runs",
        [
            Text(
                "One line per organism and method: change in domain and out of domain (sampled at T = 1), plain questions "
                "answered rightly before and after, and a page with everything else."
            ),
            *(
                Details(
                    f"{column.title}: {len(cells)} runs", [Table(head, [_run(record, column, one) for one in cells])]
                )
                for column, cells in _by_column(record)
            ),
        ],
        "cells",
        "Single runs",
    )


def _run(record: StudyRecord, column: Column, cell: CellRecord) -> tuple[Field, ...]:
    unused = () if cell.organism in column.used else ("organism not used: not in any mean",)
    return (
        Field(_link(record, cell), unused),
        *(change_field(cell.differences.get(view), record.epsilon) for view in (("in", "sampled"), ("out", "sampled"))),
        rate_field(cell.labels and cell.labels.misaligned),
        Field(f"{rate_value(cell.direct_before)} → {rate_value(cell.direct_after)}"),
        Field(percent(cell.null_rate)),
    )


def _link(record: StudyRecord, cell: CellRecord) -> Link:
    title = next(method.title for method in record.methods if method.name == cell.method)
    return Link(f"{title}, seed {cell.seed}", cell_path(cell))


def _by_column(record: StudyRecord) -> list[tuple[Column, list[CellRecord]]]:
    return [
        (column, [cell for cell in record.cells if (cell.model, cell.kind) == (column.model, column.kind)])
        for column in columns(record)
    ]


def example_section(record: StudyRecord) -> Section:
    """Per kind of organism one example of each of the methods that changed most, from organisms that are used."""
    blocks: list[Block] = [
        Section(column.title, list(_examples(record, chosen)))
        for column, cells in _by_column(record)
        if (chosen := _most_changed(column, cells))
    ]
    return Section(
        "Answers before and after",
        [
            Text(
                "From the runs that changed most, chosen to go the way the whole run went: they illustrate, they prove "
                "nothing. More on each run's page."
            ),
            *(blocks or [Text(MISSING)]),
        ],
        "examples",
        "Examples",
    )


def _most_changed(column: Column, cells: Sequence[CellRecord]) -> list[CellRecord]:
    telling = [one for one in cells if one.examples and one.organism in column.used and _change(one) is not None]
    telling.sort(key=lambda one: (-abs(_change(one)), one.organism, one.method))
    largest: dict[str, CellRecord] = {}
    for cell in telling:
        largest.setdefault(cell.method, cell)
    return list(largest.values())[:METHODS_WITH_EXAMPLES_PER_KIND]


def _examples(record: StudyRecord, cells: Sequence[CellRecord]) -> Iterator[Block]:
    for cell in cells:
        yield Text((_link(record, cell), f": {points(_change(cell))} points"), soft=True)
        rose = (_change(cell) or 0.0) > 0
        moved = (one for one in cell.examples if (one.verdict_before, one.verdict_after) == (not rose, rose))
        yield answers_of(next(moved, cell.examples[0]))


def _change(cell: CellRecord) -> float | None:
    change = cell.differences.get(MAIN_VIEW)
    return None if change is None else change.value


def provenance_section(record: StudyRecord, tables: Sequence[str]) -> Section:
    """Commit, times, versions, fingerprints, settings, and the tables that hold every number, by their names."""
    facts = [
        ("Commit", (record.commit or MISSING) + (" with uncommitted changes" if record.dirty else "")),
        ("Started", moment(record.started)),
        ("Finished", moment(record.finished)),
        ("Wall time", duration(record.wall_seconds)),
        *record.versions.items(),
    ]
    links = [
        part
        for name in tables
        for part in (
            f" {name.replace('_', ' ')} (",
            Link("CSV", f"tables/{name}.csv"),
            ", ",
            Link("Parquet", f"tables/{name}.parquet"),
            ")." if name == tables[-1] else "),",
        )
    ]
    behind = "; ".join(f"{name}: {path}" for name, path in record.tables.items())
    return Section(
        "Provenance",
        [
            Table((), facts),
            Details("Fingerprints", [Table((), list(record.fingerprints.items()))]),
            Details("Settings", [Code(json.dumps(record.settings, indent=2, ensure_ascii=False, default=str))]),
            Text(("Every number of this page as tables:", *links)),
            *([Text(f"Stored tables behind it: {behind}.")] if behind else []),
        ],
        "provenance",
        "Provenance",
    )
