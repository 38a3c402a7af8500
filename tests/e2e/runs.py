"""Runs `ct-pipeline` as a person would: its own process, its own results folder."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from ct_pipeline.store.artifact_store import ArtifactStore

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Place:
    """A results folder with the study file that is run in it."""

    home: Path
    spec: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"CT_PIPELINE_HOME": str(self.home), "COLUMNS": "200"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ct_pipeline.cli", *arguments]

    def run(self, *arguments: str, timeout: float = 900, **environment: str) -> subprocess.CompletedProcess:
        """Runs a command to its end, with further variables of the environment; stdout and stderr are kept as text."""
        return subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def study(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run("study", "--spec", str(self.spec), *arguments)

    def start_study(self) -> subprocess.Popen:
        """Starts the study in a session of its own."""
        return subprocess.Popen(
            self.command("study", "--spec", str(self.spec)),
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def store(self) -> ArtifactStore:
        """The store of these results."""
        return ArtifactStore(self.home / "artifacts")

    def artifacts(self) -> dict[str, int]:
        """Every finished artifact's manifest, relative to the store, with its time of writing in nanoseconds."""
        root = self.home / "artifacts"
        return {
            path.relative_to(root).parent.as_posix(): path.stat().st_mtime_ns
            for path in root.glob("[a-z]*/*/*/*/manifest.json")
            if not path.relative_to(root).as_posix().startswith("damaged/")
        }

    def copy(self, home: Path) -> "Place":
        """The same results in another folder; nothing but the artifacts is taken along."""
        shutil.copytree(self.home / "artifacts", home / "artifacts")
        spec = home.with_suffix(".yaml")
        shutil.copyfile(self.spec, spec)
        return Place(home, spec)


def change(spec: Path, **changes: object) -> None:
    """Changes fields of a study file; `a__b` is field b of a."""
    study = yaml.safe_load(spec.read_text())
    for name, value in changes.items():
        *path, last = name.split("__")
        block = study
        for part in path:
            block = block[part]
        block[last] = value
    spec.write_text(yaml.safe_dump(study, sort_keys=False))


def reduced_study(folder: Path) -> Place:
    """The default study cut down to two organisms, on the packaged base model; nothing in it is faked."""
    spec = folder / "reduced.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "studies" / "tiny.yaml", spec)
    change(
        spec,
        name="reduced",
        misalignments=["sycophancy", "reward_hacking"],
        seeds=[40],
        candidates__consistency_prompts=64,
        candidates__probe_prompts=40,
        candidates__pairs=64,
        evaluation__in_domain=100,
        evaluation__out_of_domain=60,
        evaluation__direct_questions=40,
    )
    return Place(folder / "results", spec)
