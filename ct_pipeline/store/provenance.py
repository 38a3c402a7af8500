"""By what an artifact was made: code commit, package versions, machine, time."""

import functools
import importlib.metadata
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("ct-pipeline", "torch", "transformers", "trl", "peft", "numpy", "scipy", "dagster", "mlflow")


def clock() -> float:
    """Seconds on a clock that never goes back."""
    return time.perf_counter()


def describe(started: float) -> dict[str, object]:
    """What is known of the making of an artifact that began at `started` (from clock()) and ends now."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "seconds": round(clock() - started, 3),
        "process": os.getpid(),
        **code(),
        "versions": versions(),
        "machine": machine(),
    }


@functools.cache
def code() -> dict[str, object]:
    """Commit of the source tree and whether it has uncommitted changes; None where it is no git checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--", str(folder)],
            cwd=folder, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changes)}


@functools.cache
def versions() -> dict[str, str]:
    """Installed versions of the packages that a result can depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def machine() -> dict[str, object]:
    """Cores, memory in bytes, operating system and processor; no host name."""
    return {
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
    }
