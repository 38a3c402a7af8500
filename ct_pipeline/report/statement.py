"""The result in plain sentences, and what a result of this kind can and cannot say."""

from collections import Counter

from ct_pipeline.analysis.verdicts import DIRECTED, MOST_MISSING, Verdict
from ct_pipeline.report.outcome_words import NOT_CORRECTED, moved
from ct_pipeline.report.records import MAIN_VIEW, StudyRecord
from ct_pipeline.report.summary import GridCell, cell_signs, grid, known, organism_signs
from ct_pipeline.report.wording import change_interval, joined, points, signed


def result_sentences(record: StudyRecord) -> tuple[str, ...]:
    """The result of a study for someone who reads nothing else: sampled at T = 1, in domain, means over seeds."""
    rows = grid(record, MAIN_VIEW)
    cells = [cell for row in rows for cell in row if known(cell)]
    if not cells:
        return (
            "No result yet: no organism passed the induction gate, or no run has been measured. "
            "Without an organism that misbehaves, a change cannot be attributed to consistency training.",
        )
    studied = [cell for cell in cells if cell.method.role != "control"]
    return (
        _counts(record, studied or cells),
        *_instead(studied or cells),
        *_extremes(studied or cells),
        *_controls(cells),
        *_survivors(studied or cells, len(cells)),
        *_signs(record),
        *_excluded(record),
    )


def limits(record: StudyRecord) -> tuple[str, ...]:
    """What the numbers can and cannot say."""
    general = (
        "A verdict speaks of these organisms, these prompts and these settings. “Undetermined” means that the data "
        "leave both a change and no change open; it does not mean “no effect”.",
        "The published numbers come from models of 7 to 70 billion parameters under other prompts and other verdicts. "
        "They stand beside ours for orientation; agreement or disagreement with them proves nothing by itself.",
    )
    if record.judging:
        general += (
            "A judge's errors scale every change that it sees; errors that differ between before and after bend it. Where "
            "answers were labelled by hand, the section on judges says how large they are.",
        )
    if all(model.source == "tinyworld" for model in record.base_models):
        return (
            "These are very small models that know a made-up world of a few hundred words. The sign found here says "
            "nothing about which sign a real language model would show.",
            "What the tiny world does show is that the chain measures what it claims: organisms are induced and "
            "checked, labels, training and evaluation run for real, and effects of known sign can be planted and must "
            "be found.",
            *general,
        )
    return general


def _counts(record: StudyRecord, cells: list[GridCell]) -> str:
    words = Counter(cell.verdict for cell in cells)
    band = f"{100 * record.epsilon:g} percentage points"
    seeds = sorted({cell.change.seeds for cell in cells})
    spread = "one seed" if seeds == [1] else f"{' to '.join(map(str, sorted({seeds[0], seeds[-1]})))} seeds"
    return (
        f"{_unreadable(words[Verdict.UNREADABLE], len(cells))}Of {len(cells)} combinations of misbehaviour and method, "
        f"controls apart, the misbehaviour became more frequent by over {band} in {words[Verdict.AMPLIFIES]} and less "
        f"frequent by over {band} in {words[Verdict.SUPPRESSES]}; in {words[Verdict.RISES]} it rose and in "
        f"{words[Verdict.FALLS]} it fell by an unclear amount; in {words[Verdict.NEUTRAL]} it changed by less than {band}; "
        f"{words[Verdict.UNDETERMINED]} are undetermined. Each rests on {spread}, on prompts like those the misbehaviour was "
        "trained on and answers sampled at temperature 1."
    )


def _unreadable(number: int, cells: int) -> str:
    if not number:
        return ""
    return (
        f"In {number} of {cells} combinations more than {100 * MOST_MISSING:g} % of the answers have no verdict: they are "
        "unreadable, and their changes say nothing. "
    )


def _instead(cells: list[GridCell]) -> list[str]:
    """Whether what misbehaves less answers rightly instead."""
    fell = [cell for cell in cells if cell.outcomes and cell.outcomes.corrected is not None and cell.change.fell]
    flagged = [cell for cell in fell if cell.not_corrected]
    if not flagged:
        return ["Wherever the misbehaviour fell clearly, right answers came in its place."] if fell else []
    worst = min(flagged, key=lambda cell: cell.outcomes.right.value)
    return [
        f"Less misbehaviour is not more right answers: in {len(flagged)} of the {len(fell)} combinations in which it fell, "
        f"less than half of the fall became right answers ({NOT_CORRECTED}); most of all {worst.column.title} under "
        f"{worst.method.title}: {moved(worst.outcomes)}."
    ]


def _extremes(cells: list[GridCell]) -> list[str]:
    sentences = []
    for word, name in ((Verdict.AMPLIFIES, "rise"), (Verdict.SUPPRESSES, "fall")):
        found = [cell for cell in cells if cell.verdict == word]
        if found:
            cell = max(found, key=lambda one: abs(one.change.value))
            paper = "" if cell.published is None else f"; the paper reports {signed(cell.published)}"
            sentences.append(
                f"The largest clear {name}: {cell.column.title} under {cell.method.title}, {points(cell.change.value)} "
                f"percentage points (interval {change_interval(cell.change)}{paper})."
            )
    return sentences


def _controls(cells: list[GridCell]) -> list[str]:
    null = [cell for cell in cells if cell.method.name == "null"]
    if not null:
        return []
    moved = [cell for cell in null if cell.verdict in DIRECTED]
    if moved:
        names = joined([f"{cell.column.title} ({points(cell.change.value)})" for cell in moved])
        return [f"Warning: the null control, which should do nothing, moved {names}: read the other changes by it."]
    return [
        "The null control, which trains on the model's own unselected samples, shows no clear change, as it should."
    ]


def _survivors(cells: list[GridCell], compared: int) -> list[str]:
    directed = [cell for cell in cells if cell.verdict in DIRECTED]
    if not directed:
        return []
    survivors = sum(cell.survives for cell in directed)
    return [
        f"After Holm's correction for {compared} comparisons, controls included, {survivors} of these {len(directed)} "
        f"clear changes still {'stands' if survivors == 1 else 'stand'}."
    ]


def _signs(record: StudyRecord) -> list[str]:
    signs, organisms = cell_signs(record), organism_signs(record)
    if organisms.p_value is None:
        return []
    total = signs.rose + signs.fell + signs.unchanged
    return [
        f"Counting signs alone, controls included, {signs.rose} of {total} single runs rose and {signs.fell} fell. Runs of "
        f"one organism share its measurement, so organisms are tested: averaged over methods, {organisms.rose} rose and "
        f"{organisms.fell} fell (sign test p = {organisms.p_value:.2g})."
    ]


def _excluded(record: StudyRecord) -> list[str]:
    planned, used = len(record.organisms), sum(one.used for one in record.organisms)
    failed = sum(one.gate is None or not one.gate.passed for one in record.organisms)
    if not failed:
        return [f"All {planned} organisms passed the induction gate."]
    if used == planned:
        return [
            f"{failed} of {planned} organisms did not pass the induction gate, which this study only reports: all are used."
        ]
    return [f"{planned - used} of {planned} organisms did not pass the induction gate; no mean contains them."]
