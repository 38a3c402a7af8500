"""Declarative automation: the audit's assets follow data versions of `audit_inputs`, subject by subject."""

import dagster as dg
import pytest

from ct_pipeline.assets.audit_inputs import audit_inputs
from ct_pipeline.assets.audits import AUDIT_ASSETS
from ct_pipeline.automation import DATA_VERSION_TAG
from ct_pipeline.definitions import RESOURCES
from ct_pipeline.partitions import audit_subject

NAMES = ["audit_evaluation", "audit_prediction", "audit_shift", "audit_verdict"]


class Automation:
    """Evaluates the conditions tick by tick; what is asked for is made at once."""

    def __init__(self, instance):
        self.instance, self.cursor = instance, None

    def __call__(self):
        defs = dg.Definitions(assets=[*AUDIT_ASSETS, audit_inputs], resources=RESOURCES)
        result = dg.evaluate_automation_conditions(defs, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        asked = {name: set(found) for name in NAMES if (found := result.get_requested_partitions(dg.AssetKey(name)))}
        for name, partitions in asked.items():
            self.make(name, partitions)
        return asked

    def make(self, name, partitions):
        for partition in partitions:
            self.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=partition))

    def observe(self, partition, version):
        self.instance.report_runless_asset_event(
            dg.AssetObservation(audit_inputs.key, partition=partition, tags={DATA_VERSION_TAG: version})
        )


@pytest.fixture
def automation(instance):
    found = Automation(instance)
    found()
    return found


def registered(automation, *names):
    automation.instance.add_dynamic_partitions(audit_subject.name, list(names))
    for name in names:
        automation.observe(name, "first")


def test_a_new_subject_is_audited_whole(automation):
    registered(automation, "one")
    assert automation() == {name: {"one"} for name in NAMES}
    assert automation() == {}


def test_changed_inputs_alone_are_audited_again_and_no_other_subject_is(automation):
    registered(automation, "one", "two")
    automation()
    automation.observe("one", "second")
    automation.observe("two", "first")
    assert automation() == {name: {"one"} for name in NAMES}
    assert automation() == {}


def observed(instance):
    job = dg.Definitions(assets=[audit_inputs]).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance)
    found = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    return {each.partition: each.tags[DATA_VERSION_TAG] for each in found}


def test_observing_puts_down_a_version_per_registered_subject(audits, instance):
    audits.audit("one")
    audits.audit("two")
    instance.add_dynamic_partitions(audit_subject.name, ["one", "elsewhere"])
    first = observed(instance)
    assert set(first) == {"one"}
    assert observed(instance) == first
    audits.adapter("one-after", "other")
    assert observed(instance)["one"] != first["one"]
