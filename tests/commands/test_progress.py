"""The live display on a real terminal, while something else holds file descriptor 1, as Dagster does."""

import os
import pty
import subprocess
import sys

from tests.conftest import REPOSITORY, TINY

SCRIPT = f"""
import os, time
from pathlib import Path
from rich.console import Console
from ct_pipeline.commands.progress import StudyProgress
from ct_pipeline.interventions.files import read_study
from ct_pipeline.runner.workers import Outcome, StepProgress
with StudyProgress(read_study(Path({str(TINY)!r})), Console()) as shown:
    held, away = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(away, 1)
    shown.started("base_model", 1)
    shown.stepped("base_model", StepProgress(3, 9, 1.25))
    time.sleep(0.3)
    shown.finished("base_model", Outcome("tiny", 1.0, False))
    os.dup2(held, 1)
print("over")
"""


def drawn(script: str) -> str:
    """What a terminal gets from a script."""
    master, slave = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        stdin=slave, stdout=slave, stderr=slave, cwd=REPOSITORY, env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(slave)
    content = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        content += part
    assert done.wait() == 0, content.decode()
    return content.decode()


def test_bars_are_drawn_on_the_terminal_though_its_descriptor_is_held():
    shown = drawn(SCRIPT)
    assert "base model" in shown and "0/1" in shown and "1/1" in shown
    assert "step 3/9, loss 1.250" in shown and "left" in shown
    assert ": done" not in shown
    assert shown.rstrip().endswith("over")
