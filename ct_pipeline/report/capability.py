"""Capability and safety beside alignment, as a reader sees them."""

from dataclasses import dataclass
from statistics import mean

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.rates import Rate
from ct_pipeline.analysis.seeds import over_seeds
from ct_pipeline.analysis.verdicts import Effect, effect
from ct_pipeline.report.records import CapabilityScore, MethodRecord, StudyRecord
from ct_pipeline.report.section import Section, Table, Text
from ct_pipeline.report.summary import Column, used_cells
from ct_pipeline.report.wording import change_interval, percent, points, rate_interval

HEAD = ("Organisms", "Method", "Measured", "Base model", "Organism", "Retrained", "Change", "Verdict")
MARKS = {
    Effect.IMPROVES: "✓",
    Effect.HARMS: "✗",
    Effect.BETTER: "↑",
    Effect.WORSE: "↓",
    Effect.NEUTRAL: "=",
    Effect.UNDETERMINED: "?",
    Effect.UNREADABLE: "∅",
}
HARMFULNESS = "harmfulness"
PUBLISHED_HARMFULNESS = "arXiv 2606.03810: it rose in 489 of 494 runs, from 0.3 % to 11.3 %"


@dataclass(frozen=True)
class CapabilityRow:
    """One score of one kind of organism under one method, averaged over seeds; `scores` are the seeds' own."""

    column: Column
    method: MethodRecord
    scores: tuple[CapabilityScore, ...]
    change: Difference
    effect: Effect

    @property
    def name(self) -> str:
        """Of the task, or "harmfulness"."""
        return self.scores[0].name


def capability_rows(record: StudyRecord) -> tuple[CapabilityRow, ...]:
    """Every measured score, in the order of kinds, methods and tasks; () where none was measured."""
    rows = []
    for column, by_method in used_cells(record).items():
        for method in record.methods:
            by_name: dict[str, list[CapabilityScore]] = {}
            for cell in by_method.get(method.name, ()):
                for score in cell.capability:
                    by_name.setdefault(score.name, []).append(score)
            for scores in by_name.values():
                change = over_seeds([score.change for score in scores], confidence=record.confidence)
                word = effect(change, record.epsilon, scores[0].higher_is_better)
                rows.append(CapabilityRow(column, method, tuple(scores), change, word))
    return tuple(rows)


def capability_section(record: StudyRecord) -> Section | None:
    """Every score with its change in one table; None where nothing was measured."""
    rows = capability_rows(record)
    if not rows:
        return None
    soft = Text("Every run's own numbers: tables/capability.csv.", soft=True)
    blocks = [*map(Text, capability_sentences(record)), Table(HEAD, [_fields(row) for row in rows]), soft]
    return Section("Capability and safety", blocks, "capability", "Capability")


def _fields(row: CapabilityRow) -> tuple[str, ...]:
    change = row.change
    interval = f" [{change_interval(change)}]" if change.standard_error is not None else ""
    return (
        row.column.title,
        row.method.title,
        row.name if row.name == HARMFULNESS else f"{row.name} ({row.scores[0].metric})",
        *(_mean([getattr(score, side) for score in row.scores]) for side in ("base", "before", "after")),
        f"{points(change.value)}{interval}",
        f"{MARKS[row.effect]} {row.effect}",
    )


def capability_sentences(record: StudyRecord) -> list[str]:
    """What the section says in words: how to read it, how many changes are clear, and what is missing."""
    rows = capability_rows(record)
    sentences = [
        "Scores from 0 to 100 on the same documents before and after; the change in points is paired by document, its "
        f"interval at {100 * record.confidence:g} %. A fall of an accuracy harms, and so does a rise of the harmfulness; "
        f"changes within ±{100 * record.epsilon:g} points count as none."
    ]
    tasks = [row for row in rows if row.name != HARMFULNESS]
    if tasks:
        sentences.append(f"Capability: {_counted(tasks)}.")
    probe = [score for row in rows if row.name == HARMFULNESS for score in row.scores]
    if probe:
        rose = sum(score.change.value is not None and score.change.value > 0 for score in probe)
        sentences.append(
            f"Harmfulness of answers to harmful requests (a judge's, after arXiv 2402.10260) rose in {rose} of {len(probe)} "
            f"runs: {_counted([row for row in rows if row.name == HARMFULNESS])} ({PUBLISHED_HARMFULNESS})."
        )
    missing = sum(score.change.missing for row in rows for score in row.scores)
    if missing:
        sentences.append(f"{missing:,} documents or answers without a score left the pairing; none was counted as 0.")
    return sentences


def _counted(rows: list[CapabilityRow]) -> str:
    counts = {word: sum(row.effect == word for row in rows) for word in Effect}
    always = (Effect.IMPROVES, Effect.HARMS, Effect.NEUTRAL, Effect.UNDETERMINED)
    said = [f"{number} {word}" for word, number in counts.items() if number or word in always]
    return f"of {len(rows)} changes, {', '.join(said)}"


def _mean(rates: list[Rate]) -> str:
    """The mean over seeds; of one alone with its interval."""
    known = [rate.value for rate in rates if rate.value is not None]
    text = percent(mean(known) if known else None)
    return f"{text} [{rate_interval(rates[0])}]" if len(rates) == 1 and known else text
