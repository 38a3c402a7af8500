"""A scheduled audit that was not run when it was due: the list's question, the check in the UI, the sensor's words."""

import json
from datetime import UTC, datetime

import dagster as dg
import pytest

from ct_pipeline.assets.audit_overdue import on_time
from ct_pipeline.assets.audits import AUDIT_ASSETS
from ct_pipeline.automation import look_at
from ct_pipeline.definitions import RESOURCES
from ct_pipeline.records.audit_overdue import overdue_since
from ct_pipeline.records.audit_watch import subjects
from ct_pipeline.settings.environment import home

MONDAYS = "0 6 * * 1"


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Puts down records of runs, by name, number, moment and outcome."""
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))

    def put(name, number, time, status="done"):
        folder = home() / "audits" / name / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        told = {"format": 1, "audit": name, "number": number, "time": time, "status": status}
        (folder / f"{number:04d}.json").write_text(json.dumps(told))

    return put


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_run_is_overdue_an_hour_after_it_was_due(audits, ran):
    audits.audit("one", schedule=MONDAYS)
    audit = subjects().audits["one"]
    assert overdue_since(audit, home(), at("2026-11-20 00:00")) is None, "it never ran"
    ran("one", 1, "2026-11-10T06:01:00+00:00")
    assert overdue_since(audit, home(), at("2026-11-15 23:00")) is None
    assert overdue_since(audit, home(), at("2026-11-16 06:59")) is None
    assert overdue_since(audit, home(), at("2026-11-16 07:00")) == at("2026-11-16 06:00")
    assert overdue_since(audit, home(), at("2026-11-24 12:00")) == at("2026-11-23 06:00")
    ran("one", 2, "2026-11-24T11:00:00+00:00", "refused")
    assert overdue_since(audit, home(), at("2026-11-24 12:00")) == at("2026-11-23 06:00")
    ran("one", 3, "2026-11-24T11:30:00+00:00")
    assert overdue_since(audit, home(), at("2026-11-24 12:00")) is None


def test_without_a_schedule_nothing_is_due(audits, ran):
    audits.audit("one")
    ran("one", 1, "2020-01-01T00:00:00+00:00")
    assert overdue_since(subjects().audits["one"], home()) is None


def checked(instance):
    defs = dg.Definitions(assets=AUDIT_ASSETS, asset_checks=[on_time], resources=RESOURCES)
    job = defs.resolve_implicit_global_asset_job_def()
    selection = dg.AssetSelection.checks(on_time)
    result = dg.define_asset_job("look", selection=selection).resolve(asset_graph=job.asset_layer.asset_graph)
    (found,) = result.execute_in_process(instance=instance).get_asset_check_evaluations()
    return found


def test_the_check_names_the_subjects_that_are_overdue(audits, ran, instance):
    audits.audit("late", schedule=MONDAYS)
    audits.audit("never", schedule=MONDAYS)
    assert checked(instance).passed
    ran("late", 1, "2020-01-01T00:00:00+00:00")
    found = checked(instance)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == "overdue: late"
    (row,) = found.metadata["overdue"].records
    assert (row.data["subject"], row.data["schedule"]) == ("late", MONDAYS)


def test_the_sensor_says_so_at_each_tick(audits, ran):
    audits.audit("late", schedule=MONDAYS)
    ran("late", 1, "2020-01-01T00:00:00+00:00")
    said = look_at(subjects(), None, {"late": MONDAYS}).said
    assert [line for line in said if line.startswith(f"late: overdue, its schedule {MONDAYS} was last due at 20")]
