"""The grid: every kind of organism under every method, averaged over seeds, with its verdict."""

from dataclasses import dataclass
from statistics import mean

from ct_pipeline.analysis.outcomes import OutcomeChange, outcomes_over_seeds
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.published import published_change
from ct_pipeline.analysis.seeds import over_seeds
from ct_pipeline.analysis.verdicts import DIRECTED, SignTest, Verdict, holm_verdicts, sign_test, verdict
from ct_pipeline.report.records import MAIN_VIEW, CellRecord, MethodRecord, OrganismRecord, StudyRecord, View


@dataclass(frozen=True)
class Column:
    """One kind of organism of one base model; `used` are the keys of its organisms that count: see `OrganismRecord.used`."""

    model: str
    kind: str
    title: str
    misbehaviour: str
    planned: int
    used: tuple[str, ...]


@dataclass(frozen=True)
class GridCell:
    """One column under one method.

    `change` is None where nothing was measured; `survives` says whether the verdict stands after Holm's correction over
    its grid; `published` is the paper's mean Δ in percentage points; `by_seed` holds the seeds' own changes; `outcomes` says
    what the answers were, means over seeds, None where nothing was measured.
    """

    column: Column
    method: MethodRecord
    change: Difference | None
    verdict: Verdict | None
    survives: bool
    published: float | None
    by_seed: tuple[tuple[int, Difference], ...]
    outcomes: OutcomeChange | None = None

    @property
    def not_corrected(self) -> bool:
        """Whether the misbehaviour is suppressed, not corrected: what came in its place is mostly not the right answer."""
        return bool(self.change and self.outcomes and self.outcomes.suppressed_not_corrected(self.change))


def columns(record: StudyRecord) -> tuple[Column, ...]:
    """Kinds of organisms in the order of the study, one column per base model and kind."""
    groups: dict[tuple[str, str], list[OrganismRecord]] = {}
    for organism in record.organisms:
        groups.setdefault((organism.model, organism.kind), []).append(organism)
    several_models = len({model for model, _ in groups}) > 1
    return tuple(
        Column(
            model=model,
            kind=kind,
            title=f"{members[0].title} ({model})" if several_models else members[0].title,
            misbehaviour=members[0].misbehaviour,
            planned=len(members),
            used=tuple(one.key for one in members if one.used),
        )
        for (model, kind), members in groups.items()
    )


def grid(record: StudyRecord, view: View) -> tuple[tuple[GridCell, ...], ...]:
    """Rows of methods × columns of kinds for one view; organisms that are not used are left out.

    Returns:
        One tuple per method in the record's order, one cell per column in the order of `columns`.
    """
    used = used_cells(record)
    seeds: dict[tuple[str, Column], tuple[tuple[int, Difference], ...]] = {}
    means: dict[tuple[str, Column], Difference] = {}
    for method in record.methods:
        for column in columns(record):
            cells = used[column].get(method.name, ())
            by_seed = tuple((cell.seed, cell.differences[view]) for cell in cells if view in cell.differences)
            seeds[method.name, column] = by_seed
            if by_seed:
                prompts = [cell.by_prompt[view] for cell in cells if view in cell.by_prompt]
                means[method.name, column] = over_seeds(
                    [one for _, one in by_seed],
                    confidence=record.confidence,
                    by_prompt=prompts if len(prompts) == len(by_seed) else (),
                )
    corrected = holm_verdicts(means, record.epsilon)

    def cell(method: MethodRecord, column: Column) -> GridCell:
        change = means.get((method.name, column))
        word = None if change is None else verdict(change, record.epsilon)
        directed = word in DIRECTED
        return GridCell(
            column=column,
            method=method,
            change=change,
            verdict=word,
            survives=directed and corrected[method.name, column] == word,
            published=published_change(column.kind, method.name),
            by_seed=seeds[method.name, column],
            outcomes=outcomes_over_seeds(
                [one.outcomes[view] for one in used[column].get(method.name, ()) if view in one.outcomes],
                confidence=record.confidence,
            ),
        )

    return tuple(tuple(cell(method, column) for column in columns(record)) for method in record.methods)


def used_cells(record: StudyRecord) -> dict[Column, dict[str, tuple[CellRecord, ...]]]:
    """Column to method to the cells of the organisms that are used, in the order of the organisms."""
    found: dict[str, list[CellRecord]] = {}
    for cell in record.cells:
        found.setdefault(cell.organism, []).append(cell)
    grouped = {}
    for column in columns(record):
        by_method: dict[str, list[CellRecord]] = {}
        for cell in (cell for key in column.used for cell in found.get(key, ())):
            by_method.setdefault(cell.method, []).append(cell)
        grouped[column] = {name: tuple(cells) for name, cells in by_method.items()}
    return grouped


def known(cell: GridCell) -> bool:
    """Whether a cell of the grid has a number."""
    return cell.change is not None and cell.change.value is not None


def organism_signs(record: StudyRecord, view: View = MAIN_VIEW) -> SignTest:
    """The sign test over the organisms that are used: the mean change of each over all methods.

    An organism's cells share its own measurement, so their signs go together: tested singly, in a simulation of four kinds
    by three seeds by nine methods without any effect, p fell below 5 % in 29 % of studies; over organisms in 4 %.
    """
    used = {key for column in columns(record) for key in column.used}
    changes = {key: [] for key in used}
    for cell in record.cells:
        if cell.organism in used and view in cell.differences and cell.differences[view].value is not None:
            changes[cell.organism].append(cell.differences[view].value)
    return sign_test(mean(values) if values else None for values in changes.values())


def cell_signs(record: StudyRecord, view: View = MAIN_VIEW) -> SignTest:
    """Signs of single cells of the organisms that are used, as the paper counts them (arXiv 2606.03810)."""
    used = {key for column in columns(record) for key in column.used}
    return sign_test(
        cell.differences[view].value if view in cell.differences else None
        for cell in record.cells
        if cell.organism in used
    )
