"""The page on adding a measurement: its example works as it stands, from a package outside, up to the report."""

import re
import tomllib
from pathlib import Path

import pytest

from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import catalog
from ct_pipeline.steps.step import Step
from tests.e2e.runs import ROOT, Place

PAGE = (ROOT / "docs" / "adding-a-measurement.md").read_text()
MODULE, METADATA = (re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1] for language in ("python", "toml"))


def installed(site: Path, module: str) -> str:
    """A folder for PYTHONPATH that holds the package of the page as if pip had put it there."""
    (site / "my_measurements").mkdir(parents=True)
    (site / "my_measurements" / "__init__.py").write_text("")
    (site / "my_measurements" / "recall.py").write_text(module)
    about = site / "my_measurements-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-measurements\nVersion: 1.0\n")
    ((group, entries),) = tomllib.loads(METADATA)["project"]["entry-points"].items()
    lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
    (about / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    return f"{site}:{ROOT}"


def test_a_finished_study_lacks_just_the_new_measurement(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path / "results")
    before = place.artifacts()
    path = installed(tmp_path / "site", MODULE)
    outcome = place.run("study", "--spec", str(place.spec), PYTHONPATH=path)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "recall: done" in outcome.stdout
    new = {name.split("/")[0] for name in set(place.artifacts()) - set(before)}
    assert new == {"recall", "study_report"}
    assert len([name for name in place.artifacts() if name.startswith("recall/")]) == 24
    report = (place.home / "reports" / "reduced" / "index.html").read_text()
    assert 'id="recall"' in report
    assert "Mean log-probability of an answer of the organism" in report
    (curve,) = place.home.glob("artifacts/recall/tiny-sycophancy-40/bct/*/recall.json")
    assert '"step": 8' in curve.read_text(), "every checkpoint that was kept is measured"
    again = place.run("study", "--spec", str(place.spec), PYTHONPATH=path)
    assert "Nothing to do" in again.stdout


def test_a_package_that_cannot_be_used_is_named(finished: Place, tmp_path: Path) -> None:
    path = installed(tmp_path / "site", MODULE + "\nSTEP = {}\n")
    outcome = finished.run("plan", str(finished.spec), PYTHONPATH=path)
    assert outcome.returncode == 2
    assert "my-measurements 1.0 (entry recall = my_measurements.recall:STEP)" in outcome.stderr
    assert "found a dict; allowed: a Step" in outcome.stderr


def late(*after: str, grain: str = "cell") -> Step:
    return Step("late", "late", "Comes late.", 1, grain, after, lambda study, key: (), lambda context, key: None)


def test_a_step_stands_behind_what_it_comes_after() -> None:
    names = [step.name for step in catalog._ordered((*catalog.BUILT_IN, late("evaluation")))]
    assert names.index("late") == names.index("uptake") + 1
    audits = [step.name for step in catalog._ordered((*catalog.BUILT_IN, late("audit_evaluation", grain="audit")))]
    assert audits.index("audit_evaluation") < audits.index("late") < audits.index("audit_verdict")
    with pytest.raises(UserError, match="step late comes after nothing, which is not there"):
        catalog._ordered((*catalog.BUILT_IN, late("nothing")))
