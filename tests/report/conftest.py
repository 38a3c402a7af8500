"""One synthetic study and its written report, shared by the tests that only read."""

import pytest

from ct_pipeline.report.study import write_report
from tests.report.synthetic import study_record


@pytest.fixture(scope="session")
def record():
    return study_record()


@pytest.fixture(scope="session")
def report(record, tmp_path_factory):
    return write_report(record, tmp_path_factory.mktemp("report"))
