"""`ct-pipeline calibrate`: runs the planted worlds through the whole chain and says which planted effects came back."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from ct_pipeline.analysis.planted import Recovered
from ct_pipeline.interventions.files import read_study
from ct_pipeline.records.planted import recovered
from ct_pipeline.report.as_html import write_text
from ct_pipeline.report.as_markdown import markdown
from ct_pipeline.report.planted import HEAD, planted_cells, planted_sentence, planted_table
from ct_pipeline.report.section import Section, Table, Text
from ct_pipeline.report.tables import write_tables
from ct_pipeline.report.wording import duration
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.store.disk import disk_errors
from ct_pipeline.store.sharing import open_store

FOLDER = Path("studies/planted")
INTERRUPTED = 130


def calibrate(only: Sequence[str], seeds: int | None, workers: int, console: Console) -> bool:
    """Runs what is missing of the planted worlds, writes what was recovered, and returns whether all of it was.

    UserError where a world is unknown, has fewer seeds, or could not be run; finished work is kept.
    """
    worlds = planted_worlds(only)
    studies = {spec: narrowed(read_study(spec), (), seeds) for spec in worlds.values()}
    store = open_store(home() / "artifacts")
    rows: list[Recovered] = []
    seconds: dict[str, float] = {}
    for world, spec in worlds.items():
        console.print(f"World {world}:", highlight=False)
        seconds[world] = _run(world, spec, seeds, workers)
        rows += recovered(store, studies[spec])
    folder = home() / "reports" / "calibration"
    with disk_errors(folder):
        write_calibration(rows, seconds, folder)
    _print(rows, console)
    console.print(f"Calibration: {folder / 'calibration.md'}", soft_wrap=True)
    return all(row.recovered for row in rows)


def planted_worlds(only: Sequence[str]) -> dict[str, Path]:
    """The study files of the planted worlds by their names, all or those named; UserError for an unknown name."""
    places = (FOLDER.absolute(), Path(__file__).parents[2] / FOLDER)
    found = {path.stem: path for place in places if place.is_dir() for path in sorted(place.glob("*.yaml"))}
    if not found:
        raise UserError(f"{FOLDER} holds no study: run ct-pipeline in the project's folder")
    unknown = [name for name in only if name not in found]
    if unknown:
        raise UserError(f"--only: found {', '.join(unknown)}; allowed: {', '.join(found)}, separated by commas")
    return {name: path for name, path in found.items() if not only or name in only}


def write_calibration(rows: Sequence[Recovered], seconds: Mapping[str, float], folder: Path) -> None:
    """Writes calibration.md, calibration.csv and calibration.parquet; `seconds` by world are those of this run."""
    write_tables({"calibration": planted_table(rows)}, folder)
    times = ", ".join(f"{world} {duration(spent)}" for world, spent in seconds.items())
    blocks = [
        Text(planted_sentence(rows)),
        Table(HEAD, [planted_cells(row) for row in rows]),
        Text(f"Time of this run, finished work not repeated: {times}; {duration(sum(seconds.values()))} in all."),
    ]
    write_text(markdown([Section("Planted worlds", blocks)], level=1), folder / "calibration.md")


def _run(world: str, spec: Path, seeds: int | None, workers: int) -> float:
    """Seconds that `ct-pipeline study` took: in a process of its own, because Dagster's code location holds one study."""
    command = [sys.executable, "-m", "ct_pipeline.cli", "study", "--spec", str(spec), "--workers", str(workers)]
    started = time.perf_counter()
    done = subprocess.run([*command, *(("--seeds", str(seeds)) if seeds else ())], check=False)
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode:
        raise UserError(f"world {world} could not be run; its message is above. What was made is kept")
    return time.perf_counter() - started


def _print(rows: Sequence[Recovered], console: Console) -> None:
    shown = RichTable(title="Planted effects recovered", title_justify="left")
    for title in HEAD:
        shown.add_column(title)
    for row in rows:
        shown.add_row(*planted_cells(row), style=None if row.recovered else "red")
    console.print(shown)
