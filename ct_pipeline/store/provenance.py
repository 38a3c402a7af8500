"""By what an artifact was made: code commit, package versions, machine, time."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
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
        "machine": machine() | computing(),
    }


@functools.cache
def code() -> dict[str, object]:
    """Digest of the installed source, commit of its tree and whether it has uncommitted changes.

    Commit and changes are None where it is no git checkout. The digest is one of all Python files of the package, so
    that equal code is known as such with uncommitted changes, too.
    """
    folder = Path(__file__).parents[1]
    source = source_digest(folder)
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--", str(folder)],
            cwd=folder, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None, "source": source}
    return {"commit": commit, "dirty": bool(changes), "source": source}


def source_digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all Python files below a folder."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.py")}
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


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
    """Cores, memory in bytes, operating system, processor architecture and model; no host name."""
    return {
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "processor_model": _processor_model(),
    }


def computing() -> dict[str, object]:
    """By what torch computes at this moment: threads, accelerator, its number on the machine; None: not used, not told."""
    device = os.environ.get("CUDA_VISIBLE_DEVICES") or None
    torch = sys.modules.get("torch")
    # Partly imported by another thread, or not at all: nothing was computed with it.
    if torch is None or not hasattr(torch, "get_num_threads"):
        return {"threads": None, "accelerator": None, "device": device}
    cuda = torch.cuda.is_initialized()
    return {
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if cuda else None,
        "device": device,
    }


def _processor_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
