"""A study of the default's form for every test, and a results folder that is not the user's."""

import gc
import os
import tempfile
from pathlib import Path

import pytest

from ct_pipeline.settings.environment import prepare_environment

pytest_plugins = ["tests.fakes.published", "tests.fakes.small_studies"]

REPOSITORY = Path(__file__).parents[1]
TINY = REPOSITORY / "tests" / "fakes" / "tiny.yaml"


def pytest_configure(config):
    """Before anything reads them: Dagster's partitions are made of CT_PIPELINE_STUDY when it is imported."""
    prepare_environment()
    os.environ["CT_PIPELINE_STUDY"] = str(TINY)
    for name in ("CT_PIPELINE_ONLY", "CT_PIPELINE_SEEDS"):
        os.environ.pop(name, None)
    config.stash[_FOLDER] = folder = tempfile.TemporaryDirectory(prefix="ct-pipeline-tests-")
    os.environ["CT_PIPELINE_HOME"] = folder.name


SHARE_THE_FINISHED_STUDY = (
    "tests/e2e/test_adding_a_measurement.py",
    "tests/e2e/test_docs.py",
    "tests/e2e/test_readme.py",
    "tests/e2e/test_study.py",
)


def pytest_collection_modifyitems(items):
    """Those who share the finished study go first: they take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(SHARE_THE_FINISHED_STUDY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With several test processes a file stays in one, and so do all who share the finished study."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "finished" if file in SHARE_THE_FINISHED_STUDY else file

    return ByFile(config, log)


@pytest.fixture(scope="module", autouse=True)
def imported_modules_are_no_garbage():
    """Every training and every closing of models collects garbage, which takes most of a second among all that is imported."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    config.stash[_FOLDER].cleanup()


_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory]()


@pytest.fixture(scope="session")
def tiny_text():
    return TINY.read_text()


@pytest.fixture(scope="session")
def tiny_study():
    from ct_pipeline.interventions.files import read_study

    return read_study(TINY)
