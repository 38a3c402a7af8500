"""The live display of a study: a bar per stage."""

import os
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ct_pipeline.report.wording import duration
from ct_pipeline.runner.workers import Outcome, StepProgress
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import STUDY_STEPS


class StudyProgress:
    """Shows how many keys of each stage are made; on a terminal that is no terminal, one line per finished stage."""

    def __init__(self, study: Study, console: Console) -> None:
        self._given = console
        self._console = _own_terminal(console)
        self._titles = {stage.name: stage.title for stage in STUDY_STEPS}
        self._bars = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._began: dict[str, float] = {}
        self._study = study
        self._tasks: dict[str, TaskID] = {}
        self._left: dict[str, int] = {}

    def __enter__(self) -> "StudyProgress":
        self._bars.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bars.stop()
        if self._console is not self._given:
            self._console.file.close()

    def started(self, stage: str, keys: int) -> None:
        """Adds a stage's bar, or lengthens it when more of its keys come."""
        self._left[stage] = self._left.get(stage, 0) + keys
        self._began.setdefault(stage, time.monotonic())
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(self._titles[stage], total=keys, note="")
        else:
            self._bars.update(self._tasks[stage], total=self._bars.tasks[self._tasks[stage]].total + keys)

    def stepped(self, stage: str, progress: StepProgress) -> None:
        """Shows step and loss of a long job, and how long it will take yet where it is the only one of its stage."""
        left = ""
        if self._bars.tasks[self._tasks[stage]].total == 1 and progress.step:
            seconds = (time.monotonic() - self._began[stage]) / progress.step * (progress.steps - progress.step)
            left = f", {duration(seconds)} left"
        note = f"step {progress.step}/{progress.steps}, loss {progress.loss:.3f}{left}"
        self._bars.update(self._tasks[stage], note=note)

    def finished(self, stage: str, outcome: Outcome) -> None:
        """Counts one key."""
        self._bars.update(self._tasks[stage], advance=1, note="")
        self._left[stage] -= 1
        if not self._left[stage] and not self._console.is_terminal:
            self._console.print(f"{self._titles[stage]}: done")


def _own_terminal(console: Console) -> Console:
    """A console on a duplicate of the terminal: Dagster takes file descriptor 1 away while a step runs.

    The console itself where it is no terminal.
    """
    if not console.is_terminal:
        return console
    return Console(file=os.fdopen(os.dup(console.file.fileno()), "w", encoding="utf-8"), highlight=False)
