"""A few figures of a report as small pictures, for pages that take an image and no SVG."""

from pathlib import Path

from ct_pipeline.report.curves import curves
from ct_pipeline.report.figures.bars import small_split_plots, split_limits
from ct_pipeline.report.figures.lines import curve_numbers, small_k_plots
from ct_pipeline.report.figures.scatter import prediction_plot
from ct_pipeline.report.figures.style import as_png
from ct_pipeline.report.prediction_score import prediction_scores
from ct_pipeline.report.records import StudyRecord
from ct_pipeline.report.split import splits

KINDS_SHOWN = 4
PICTURES = {
    "shift_and_selection": "Labels against the organism at T = 1: shift, selection and their sum",
    "predictions": "Observed change against the one predicted from the labels",
    "k_curves": "Selection along k",
}
"""Name of each picture's file to what it shows; a report has those for which there is something to show."""


def write_pictures(record: StudyRecord, folder: Path) -> list[Path]:
    """Writes those of PICTURES that have something to show, as PNG of less than 60 kB, of the first four kinds of organism."""
    figures = {}
    if groups := [(one.column.title, one.labels["sampled"]) for one in splits(record) if one.labels["sampled"]]:
        shown = groups[:KINDS_SHOWN]
        figures["shift_and_selection"] = small_split_plots(
            shown, split_limits([row for _, rows in shown for row in rows])
        )
    if families := prediction_scores(record):
        figures["predictions"] = prediction_plot(families[0].cells, families[0].scores.overall.slope.value)
    if lines := curves(record)[:KINDS_SHOWN]:
        shown = [(one.column.title, one.k_curves) for one in lines]
        figures["k_curves"] = small_k_plots(shown, curve_numbers(curves_ for _, curves_ in shown))
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        (folder / f"{name}.png").write_bytes(as_png(figure))
    return [folder / f"{name}.png" for name in figures]
