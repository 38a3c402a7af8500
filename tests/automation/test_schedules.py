"""Schedules: one per audit that names one, off until switched on; a tick asks for the audit and its adapters."""

import datetime

import dagster as dg
import pytest

from ct_pipeline.automation import REASON, audit_job, schedule_name, schedules_of
from ct_pipeline.definitions import defs
from ct_pipeline.partitions import audit_subject
from ct_pipeline.records.audit_watch import subjects

NOON = datetime.datetime(2030, 1, 7, 12, tzinfo=datetime.UTC)


def ticked(schedule, instance):
    # The schedule is part of a code location that was loaded before its file was written.
    whole = dg.Definitions.merge(defs, dg.Definitions(schedules=[schedule], jobs=[audit_job]))
    context = dg.build_schedule_context(
        instance, NOON, repository_def=whole.get_repository_def(), instance_ref=instance.get_ref()
    )
    return schedule.evaluate_tick(context)


def test_only_an_audit_that_names_a_time_has_a_schedule_and_it_is_off(audits):
    audits.audit("weekly", schedule="0 6 * * 1", watch="arriving")
    audits.audit("never")
    audits.adapter("arriving/v1")
    found = schedules_of(subjects())
    assert {name: one.cron_schedule for name, one in found.items()} == {"weekly": "0 6 * * 1"}
    assert found["weekly"].name == "audit_weekly"
    assert found["weekly"].default_status is dg.DefaultScheduleStatus.STOPPED


def test_a_file_that_cannot_be_read_and_a_day_that_never_comes_keep_nothing_from_loading(audits):
    audits.write("bad.yaml", "name: [")
    audits.audit("february", schedule="0 0 31 2 *")
    audits.audit("good", schedule="@daily".replace("@daily", "0 0 * * *"))
    assert set(schedules_of(subjects())) == {"good"}


def test_a_tick_asks_for_the_audit_and_each_adapter_that_it_watches(audits, instance):
    audits.audit("weekly", schedule="0 6 * * 1", watch="arriving")
    (schedule,) = schedules_of(subjects()).values()
    audits.adapter("arriving/v1")
    told = ticked(schedule, instance)
    assert {request.partition_key for request in told.run_requests} == {"weekly", "weekly.v1"}
    assert all(request.tags[REASON] == "schedule 0 6 * * 1" for request in told.run_requests)
    assert len({request.run_key for request in told.run_requests}) == 2
    assert set(instance.get_dynamic_partitions(audit_subject.name)) == {"weekly", "weekly.v1"}


@pytest.mark.parametrize(("change", "said"), [("gone", "weekly.yaml is gone"), ("bad", "weekly.yaml:1: name")])
def test_a_tick_of_an_audit_that_cannot_be_read_says_why(audits, instance, change, said):
    path = audits.audit("weekly", schedule="0 6 * * 1")
    (schedule,) = schedules_of(subjects()).values()
    path.unlink() if change == "gone" else audits.write("weekly.yaml", "name: other\n")
    told = ticked(schedule, instance)
    assert not told.run_requests
    assert said in told.skip_message


def test_names_of_schedules_are_dagsters_and_differ_as_audits_do():
    names = ["a.b", "a-b", "a_b", "a_b-c"]
    made = {schedule_name(name) for name in names}
    assert len(made) == len(names)
    for name in made:
        dg.ScheduleDefinition(name=name, job=audit_job, cron_schedule="0 0 * * *")
