"""A package that is installed beside ct_pipeline, for tests: a folder on sys.path with the metadata of its entry points."""

import importlib
import sys

import pytest

from ct_pipeline.interventions.catalog import interventions
from ct_pipeline.measurement.condition_catalog import factors


def _forget():
    for catalog in (factors, interventions):
        catalog.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs `files` (name -> text) as a package with the entry points of a pyproject.toml's section."""
    made = []

    def put(name, files, group, entries):
        site = tmp_path / f"site-{name}"
        (site / name).mkdir(parents=True)
        for file, text in {"__init__.py": "", **files}.items():
            (site / name / file).write_text(text)
        about = site / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{entry} = {value}\n" for entry, value in entries.items())
        (about / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        _forget()
        made.append(name)

    yield put
    _forget()
    for module in [each for each in sys.modules if each.split(".")[0] in made]:
        del sys.modules[module]
