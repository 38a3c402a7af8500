"""One reduced study, run once for all tests of this folder."""

import pytest

from tests.e2e.runs import Place, reduced_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place in which the reduced study has been run to its end."""
    place = reduced_study(tmp_path_factory.mktemp("reduced"))
    outcome = place.study()
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return place
