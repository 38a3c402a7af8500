"""The sensor: what is new or changed is audited once, what is wrong or gone is said, nothing is removed."""

import os
import time

import dagster as dg
import pytest

from ct_pipeline.automation import DATA_VERSION_TAG, REASON, Seen, Tick, audit_subjects
from ct_pipeline.definitions import defs
from ct_pipeline.partitions import audit_subject
from ct_pipeline.records.audit_watch import files_of_audit, subjects

REPOSITORY = defs.get_repository_def()


class Ticks:
    """Evaluates the sensor as the daemon does: cursor, partitions and observations are kept from tick to tick."""

    def __init__(self, instance):
        self.instance, self.cursor = instance, None

    def __call__(self):
        # Without the instance's address no partition is resolved.
        context = dg.build_sensor_context(
            self.instance, self.cursor, repository_def=REPOSITORY, instance_ref=self.instance.get_ref()
        )
        told = audit_subjects.evaluate_tick(context)
        self.cursor = told.cursor
        for request in told.dynamic_partitions_requests or ():
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        return told

    @property
    def partitions(self):
        return set(self.instance.get_dynamic_partitions(audit_subject.name))


@pytest.fixture
def tick(instance):
    return Ticks(instance)


def asked(told):
    return {request.partition_key: request.tags[REASON] for request in told.run_requests}


def test_a_new_audit_becomes_a_partition_and_is_run_once(audits, tick):
    audits.audit("one")
    told = tick()
    assert asked(told) == {"one": "it is new"}
    assert tick.partitions == {"one"}
    again = tick()
    assert asked(again) == {}
    assert again.skip_message == "1 subjects, none changed."


def test_a_changed_adapter_is_run_again_and_its_data_version_is_put_down(audits, tick):
    audits.audit("one")
    first = tick()
    audits.adapter("one-after", "other weights")
    told = tick()
    assert asked(told) == {"one": "its inputs changed"}
    versions = [event.tags[DATA_VERSION_TAG] for each in (first, told) for event in each.asset_events]
    assert len(set(versions)) == 2
    assert [event.partition for event in told.asset_events] == ["one"]


def test_a_change_and_its_way_back_are_three_requests_with_keys_of_their_own(audits, tick):
    audits.audit("one")
    keys = []
    for weights in ("first", "second", "first"):
        audits.adapter("one-after", weights)
        keys += [request.run_key for request in tick().run_requests]
    assert len(set(keys)) == 3


def test_the_same_tick_evaluated_twice_asks_by_the_same_key(audits, instance):
    audits.audit("one")
    told = [Ticks(instance)().run_requests[0].run_key for _ in range(2)]
    assert told[0] == told[1]


@pytest.mark.parametrize("change", ["touch", "schedule"])
def test_what_no_verdict_depends_on_costs_no_run(audits, tick, change):
    audits.audit("one")
    tick()
    if change == "touch":
        audits.adapter("one-after")
    else:
        audits.audit("one", schedule="0 6 * * 1")
    assert asked(tick()) == {}


@pytest.mark.parametrize("change", [{"seed": 3}, {"thresholds": {"risk": 0.4}}, {"description": "another"}])
def test_changed_settings_are_changed_inputs(audits, tick, change):
    audits.audit("one")
    tick()
    audits.audit("one", **change)
    assert asked(tick()) == {"one": "its inputs changed"}


def test_contents_are_read_only_where_sizes_or_times_differ(audits, tick):
    audits.audit("one")
    tick()
    path = audits.path / "one-after" / "adapter_model.safetensors"
    found = path.stat()
    path.write_text("WEIGHTS")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert asked(tick()) == {}, "the same size and time: not opened"
    audits.touch(path)
    assert asked(tick()) == {"one": "its inputs changed"}


def test_an_unreadable_file_is_said_with_its_line_and_stops_nothing(audits, tick):
    audits.audit("good")
    audits.write("bad.yaml", "name: bad\nthresholds: {risk: 7}\n")
    assert asked(tick()) == {"good": "it is new"}
    message = tick().skip_message
    assert f"{audits.path / 'bad.yaml'}:2: thresholds.risk: found 7" in message
    assert tick.partitions == {"good"}


def test_an_audit_that_became_unreadable_is_not_called_gone(audits, tick):
    path = audits.audit("one")
    tick()
    audits.write(path.name, "name: one\n")
    message = tick().skip_message
    assert "cannot be read" in message
    assert "gone" not in message


def test_a_file_that_disappeared_is_said_and_nothing_is_removed(audits, tick):
    path = audits.audit("one")
    tick()
    path.unlink()
    told = tick()
    assert told.skip_message == "one: its file is gone; its partition, records and artifacts are kept."
    assert tick.partitions == {"one"}


def test_a_missing_adapter_is_said_and_its_return_alone_is_no_change(audits, tick):
    audits.audit("one")
    tick()
    path = audits.path / "one-after" / "adapter_model.safetensors"
    path.rename(audits.path / "elsewhere")
    assert "one: after adapter 1 not there" in tick().skip_message
    (audits.path / "elsewhere").rename(path)
    assert asked(tick()) == {}


def test_files_that_are_being_written_wait_for_the_next_tick(audits, tick):
    audits.audit("one")
    path = audits.path / "one-after" / "adapter_model.safetensors"
    os.utime(path)
    told = tick()
    assert asked(told) == {}
    assert "its files are being written" in told.skip_message
    audits.touch(path)
    assert asked(tick()) == {"one": "it is new"}


def test_each_whole_adapter_of_a_watched_folder_is_a_subject(audits, tick):
    audits.audit("one", watch="arriving")
    audits.adapter("arriving/v1")
    audits.write("arriving/v2/adapter_config.json", "{}")
    assert set(asked(tick())) == {"one", "one.v1"}
    audits.adapter("arriving/v2")
    assert asked(tick()) == {"one.v2": "it is new"}
    assert tick.partitions == {"one", "one.v1", "one.v2"}


@pytest.mark.parametrize("name", ["Bad Name", "-x", "a\u202eb"])
def test_an_adapter_that_cannot_be_a_subject_is_said(audits, tick, name):
    audits.audit("one", watch="arriving")
    audits.adapter(f"arriving/{name}")
    tick()
    message = tick().skip_message
    assert "allowed: a-z, 0-9" in message
    assert "\u202e" not in message


def test_links_and_absent_folders_are_said(audits, tick):
    audits.audit("one", watch="arriving")
    audits.audit("two", watch="nowhere")
    (audits.path / "arriving").mkdir()
    (audits.path / "arriving" / "v1").symlink_to(audits.path / "one-after")
    tick()
    message = tick().skip_message
    assert "found a symbolic link" in message
    assert "nowhere cannot be read" in message


def test_an_adapter_with_the_name_of_an_audit_is_said(audits, tick):
    audits.audit("one", watch="arriving")
    audits.audit("one.v1")
    audits.adapter("arriving/v1")
    tick()
    assert "there is an audit of the name one.v1" in tick().skip_message


def test_a_schedule_that_is_not_loaded_yet_is_said(audits, tick):
    audits.audit("one", schedule="0 6 * * 1")
    audits.audit("two", schedule="0 0 31 2 *")
    tick()
    message = tick().skip_message
    assert "one: its schedule is now 0 6 * * 1; reload the code location to see it." in message
    assert "two: schedule '0 0 31 2 *' names a time that never comes" in message


def test_a_tick_that_runs_out_of_time_leaves_the_rest_to_the_next(audits):
    audits.audit("one")
    files = files_of_audit(subjects().audits["one"])
    late = Tick({})
    late.look("one", files, time.monotonic() - 1)
    assert not late.reasons
    assert late.seen == {}
    in_time = Tick({"one": Seen()})
    in_time.look("one", files, time.monotonic() + 9)
    assert in_time.reasons


def test_a_hundred_unchanged_subjects_are_looked_at_in_a_second(audits, tick):
    audits.audit("one", watch="arriving")
    for number in range(100):
        audits.adapter(f"arriving/v{number}")
    assert len(asked(tick())) == 101
    started = time.process_time()
    assert asked(tick()) == {}
    assert time.process_time() - started < 1
