"""An audits folder of small files, none of which is a model: schedules and sensors open nothing."""

import itertools
import os
import time

import dagster as dg
import pytest
import yaml

from tests.conftest import TINY


class Folder:
    """An audits folder; each file is written at a moment of its own, long enough ago to be whole."""

    def __init__(self, path):
        self.path = path
        self._moments = itertools.count(int(time.time()) - 10_000)

    def write(self, name, text):
        """Writes a file below the folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.touch(path)
        return path

    def touch(self, path):
        moment = next(self._moments)
        os.utime(path, (moment, moment))

    def adapter(self, name, weights="weights"):
        """A folder with the two files of an adapter."""
        self.write(f"{name}/adapter_config.json", "{}")
        return self.write(f"{name}/adapter_model.safetensors", weights).parent

    def audit(self, name, **changes):
        """An audit of one adapter, `name`-after, on the tiny world."""
        plain = {
            "name": name,
            "base_model": {"source": "tinyworld", "study": str(TINY), "model": "tiny"},
            "after": {"adapters": [f"{name}-after"]},
            "probes": {"sycophancy": {"source": "world", "misalignment": "sycophancy", "prompts": 8}},
            "thresholds": {"risk": 0.5},
        }
        if not (self.path / f"{name}-after").exists():
            self.adapter(f"{name}-after")
        return self.write(f"{name}.yaml", yaml.safe_dump(plain | changes))


@pytest.fixture
def audits(tmp_path, monkeypatch):
    """A folder of audits, which CT_PIPELINE_AUDITS names."""
    folder = Folder(tmp_path / "audits")
    folder.path.mkdir()
    monkeypatch.setenv("CT_PIPELINE_AUDITS", str(folder.path))
    return folder


@pytest.fixture
def instance(tmp_path):
    """An instance on disk: ticks resolve partitions only by one of that kind."""
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as found:
        yield found
