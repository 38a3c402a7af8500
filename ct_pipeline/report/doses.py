"""The change along the steps of retraining, where checkpoints were kept: per seed and averaged over seeds."""

from dataclasses import dataclass

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.seeds import over_seeds
from ct_pipeline.report.records import CellRecord, MethodRecord, StudyRecord
from ct_pipeline.report.summary import Column, used_cells
from ct_pipeline.report.wording import points


@dataclass(frozen=True)
class DoseCurve:
    """One method: the mean change after each step that all seeds have, and the seeds' own (step, change as a rate)."""

    method: MethodRecord
    mean: tuple[tuple[int, Difference], ...]
    seeds: tuple[tuple[tuple[int, float], ...], ...]


def dose_curves(record: StudyRecord) -> tuple[tuple[Column, tuple[DoseCurve, ...]], ...]:
    """One entry per kind of organism that has a curve."""
    found = []
    for column, by_method in used_cells(record).items():
        lines = [
            _curve(method, [cell for cell in by_method.get(method.name, ()) if cell.doses], record.confidence)
            for method in record.methods
        ]
        if any(lines):
            found.append((column, tuple(line for line in lines if line)))
    return tuple(found)


def spoken_doses(curve: DoseCurve) -> str:
    """The means in words."""
    return f"{curve.method.title}: " + ", ".join(
        f"{points(change.value)} after {step} steps" for step, change in curve.mean
    )


def _curve(method: MethodRecord, cells: list[CellRecord], confidence: float) -> DoseCurve | None:
    if not cells:
        return None
    by_seed = [{dose.step: dose.change for dose in cell.doses} for cell in cells]
    shared = sorted(set.intersection(*(set(doses) for doses in by_seed)))
    mean = tuple((step, over_seeds([doses[step] for doses in by_seed], confidence=confidence)) for step in shared)
    seeds = [[(step, change.value) for step, change in doses.items() if change.value is not None] for doses in by_seed]
    return DoseCurve(method, mean, tuple(map(tuple, seeds)))
