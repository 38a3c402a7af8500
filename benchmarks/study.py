"""Times `ct-pipeline study` from an empty results folder: wall, stages, cells, memory of every process, orchestration.

    .venv/bin/python benchmarks/study.py [--spec studies/tiny.yaml] [--only ...] [--runs 1]

Orchestration is the share of the wall time in which fewer jobs were at work than the machine has workers for, the
start of Python included: (wall - seconds of model work per worker) / wall, where pretraining occupies all workers.
With --runs 2 the label and verdict tables of the runs are compared byte for byte.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--spec", default="studies/tiny.yaml")
    options.add_argument("--only", default="")
    options.add_argument("--seeds", default="")
    options.add_argument("--runs", type=int, default=1)
    options.add_argument("--keep", default="", help="folder for the results; a temporary one if empty")
    asked = options.parse_args()
    digests = []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(1, asked.runs + 1):
            home = Path(asked.keep or temporary) / f"run{number}"
            seconds, peaks, code = timed_run(home, asked)
            print(f"run {number}: exit {code}, {seconds:.1f} s wall, {len(os.sched_getaffinity(0))} cores")
            print(
                "peak memory of each process, MiB: "
                + ", ".join(f"{peak / 1024:.0f}" for peak in sorted(peaks.values()))
            )
            digests.append(describe(home, seconds))
            again = time.perf_counter()
            subprocess.run(command(asked), cwd=ROOT, env=environment(home), check=True, stdout=subprocess.DEVNULL)
            print(f"the same command again: {time.perf_counter() - again:.1f} s")
    if len(digests) > 1:
        same = sum(digests[0][path] == digests[1].get(path) for path in digests[0])
        print(f"tables identical between runs 1 and 2: {same} of {len(digests[0])}")


def command(asked: argparse.Namespace) -> list[str]:
    """The study's command line."""
    line = [sys.executable, "-m", "ct_pipeline.cli", "study", "--spec", asked.spec]
    return line + (["--only", asked.only] if asked.only else []) + (["--seeds", asked.seeds] if asked.seeds else [])


def environment(home: Path) -> dict[str, str]:
    """Its environment."""
    return os.environ | {"CT_PIPELINE_HOME": str(home)}


def timed_run(home: Path, asked: argparse.Namespace) -> tuple[float, dict[int, int], int]:
    """Wall seconds, peak resident kilobytes of each process of the run, exit code."""
    started = time.perf_counter()
    process = subprocess.Popen(command(asked), cwd=ROOT, env=environment(home), start_new_session=True)
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(folder.name)) == process.pid:
                    status = (folder / "status").read_text()
                    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
                    peaks[int(folder.name)] = max(peak, peaks.get(int(folder.name), 0))
            except (OSError, StopIteration):
                continue
        time.sleep(0.5)
    return time.perf_counter() - started, peaks, process.returncode


def describe(home: Path, wall: float) -> dict[str, bytes]:
    """Prints stages, cells and orchestration, and returns the label and verdict tables."""
    stages, cells = defaultdict(list), defaultdict(float)
    for path in (home / "artifacts").glob("[a-z]*/*/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        seconds = manifest["provenance"]["seconds"]
        stages[manifest["stage"]].append(seconds)
        if manifest["stage"] in ("consistency_labels", "retrained_model", "evaluation"):
            cells[manifest["subject"], manifest["variant"]] += seconds
    workers = len(os.sched_getaffinity(0))
    work = 0.0
    for stage, seconds in sorted(stages.items()):
        occupied = sum(seconds) * (workers if stage == "base_model" else 1)
        work += occupied if stage != "study_report" else 0.0
        print(f"  {stage}: {len(seconds)} x median {statistics.median(seconds):.2f} s, {sum(seconds):.1f} s in all")
    per_method = defaultdict(list)
    for (_, method), seconds in cells.items():
        per_method[method].append(seconds)
    for method, seconds in per_method.items():
        print(f"  cell {method}: median {statistics.median(seconds):.2f} s")
    print(f"  orchestration: {1 - work / workers / wall:.1%} of the wall time")
    tables = [
        path
        for stage in ("consistency_labels", "evaluation", "organism_evaluation")
        for path in (home / "artifacts" / stage).rglob("*.parquet")
    ]
    return {str(path.relative_to(home)): path.read_bytes() for path in tables}


if __name__ == "__main__":
    main()
