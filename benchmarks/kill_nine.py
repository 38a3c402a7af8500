"""Kills a study with SIGKILL at random moments, reruns it each time, and checks that nothing finished is lost or redone.

    .venv/bin/python benchmarks/kill_nine.py --kills 10

A first, undisturbed run measures how long the study takes; the moments are drawn uniformly from the
first 60 % of that time, and a study that has ended before its kill starts over from the base model.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.runs import Place, reduced_study


def main() -> None:
    """Prints one line per kill and the outcome; exit code 1 where a promise is broken."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--kills", type=int, default=10)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    dice = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = reduced_study(Path(folder) / "undisturbed")
        started = time.perf_counter()
        outcome = undisturbed.study()
        length = time.perf_counter() - started
        print(f"undisturbed: exit {outcome.returncode}, {length:.0f} s, {len(undisturbed.artifacts())} artifacts")
        place = reduced_study(Path(folder) / "killed")
        redone = kills = 0
        while kills < asked.kills:
            before = place.artifacts()
            process = place.start_study()
            moment = dice.uniform(1, 0.6 * length)
            try:
                process.wait(timeout=moment)
                print(f"ended by itself before the kill, exit {process.returncode}: starting over from the base model")
                forget_all_but_the_base_model(place)
                continue
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
            after = place.artifacts()
            again = [path for path, written in before.items() if after.get(path) != written]
            redone += len(again)
            print(
                f"kill {kills} after {moment:.1f} s: {len(after)} artifacts finished, {len(again)} redone", flush=True
            )
        last = place.study()
        damaged = place.home / "artifacts" / "damaged"
        corrupt = len(list(damaged.iterdir())) if damaged.exists() else 0
        same = same_tables(undisturbed, place)
        print(f"last run: exit {last.returncode}; {redone} redone, {corrupt} damaged, tables identical: {same}")
    sys.exit(not (outcome.returncode == last.returncode == redone == corrupt == 0 and same))


def forget_all_but_the_base_model(place: Place) -> None:
    """Deletes what is finished, so that there is something to do again."""
    for path in place.artifacts():
        if not path.startswith("base_model/"):
            shutil.rmtree(place.home / "artifacts" / path)


def same_tables(one: Place, other: Place) -> bool:
    """Whether all label and evaluation tables of two runs of a study are the same, byte for byte."""
    tables = {
        path.relative_to(one.home): path.read_bytes()
        for stage in ("consistency_labels", "evaluation", "organism_evaluation")
        for path in (one.home / "artifacts" / stage).rglob("*.parquet")
    }
    return bool(tables) and all((other.home / path).read_bytes() == content for path, content in tables.items())


if __name__ == "__main__":
    main()
