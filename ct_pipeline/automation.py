"""What audits again without being asked: a schedule per audit that has one, and a sensor for new and changed files.

Both are off until they are switched on in the UI. Runs that they ask for cost seconds where nothing changed.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import dagster as dg

from ct_pipeline.assets.audit_inputs import GROUP, audit_inputs
from ct_pipeline.assets.audits import AUDIT_ASSETS
from ct_pipeline.partitions import audit_subject
from ct_pipeline.records.audit_overdue import overdue_since
from ct_pipeline.records.audit_watch import Files, Subjects, files_of_audit, subjects
from ct_pipeline.settings.environment import home

REASON = "ct_pipeline/audited_because"
DATA_VERSION_TAG = "dagster/data_version"
TICK_SECONDS = 20
"""A tick that has looked at contents for so long leaves the other subjects to the next one."""

audit_job = dg.define_asset_job(
    "audit",
    selection=list(AUDIT_ASSETS),
    partitions_def=audit_subject,
    description="Audits a subject: makes what is missing, and keeps a record of the run.",
)


@dataclass
class Seen:
    """What the sensor knows of a subject.

    Attributes:
        stamp, digest: of its files when it last looked (audit_watch.Files).
        changes: how often it asked for a run; makes each request's key unlike the last one's.
    """

    stamp: str = ""
    digest: str = ""
    changes: int = 0


@dataclass
class Tick:
    """What one tick of the sensor found: subjects to run and why, and sentences for a person."""

    seen: dict[str, Seen]
    reasons: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def look(self, name: str, files: Files, deadline: float) -> None:
        """Compares a subject with what is known of it; contents are read where sizes or times differ."""
        known = self.seen.get(name, Seen())
        if files.missing:
            self.said.append(f"{name}: {', '.join(files.missing)} not there; it is audited again when it is back.")
        elif files.stamp == known.stamp:
            return
        elif files.unsettled:
            self.said.append(f"{name}: its files are being written; looked at again at the next tick.")
        elif time.monotonic() > deadline:
            self.said.append(f"{name}: not looked at for want of time; at the next tick.")
        else:
            digest = files.digest()
            changed = digest != known.digest
            self.seen[name] = Seen(files.stamp, digest, known.changes + changed)
            if changed:
                self.reasons[name] = "its inputs changed" if known.digest else "it is new"


def look_at(found: Subjects, cursor: str | None, scheduled: Mapping[str, str]) -> Tick:
    """One tick: every subject that is there against the cursor, and what is to be said.

    Args:
        found: what the audits folder holds.
        cursor: the one before, as `cursor_of` wrote it; None at the first tick.
        scheduled: audit -> cron text of the schedules that were loaded.
    """
    tick = Tick({name: Seen(**each) for name, each in json.loads(cursor or "{}").items()})
    deadline = time.monotonic() + TICK_SECONDS
    for name, audit in found.audits.items():
        tick.look(name, files_of_audit(audit), deadline)
    tick.said += [f"{name} cannot be read:\n{why}" for name, why in found.unread.items()]
    tick.said += [
        f"{name}: its file is gone; its partition, records and artifacts are kept."
        for name in tick.seen
        if not found.covers(name)
    ]
    tick.said += [
        f"{name}: overdue, its schedule {audit.schedule} was last due at {due:%Y-%m-%d %H:%M} UTC."
        for name, audit in found.audits.items()
        if (due := overdue_since(audit, home())) is not None
    ]
    tick.said += list(_schedules_to_load(found, scheduled))
    return tick


def cursor_of(tick: Tick) -> str:
    """What the next tick is to know."""
    return json.dumps({name: asdict(each) for name, each in tick.seen.items()}, sort_keys=True)


def schedule_name(audit: str) -> str:
    """The name of an audit's schedule: Dagster allows letters, digits and _; what else is in a name becomes a hash."""
    plain = re.sub(r"[^a-z0-9_]", "_", audit)
    return f"audit_{plain}" if plain == audit else f"audit_{plain}_{hashlib.sha256(audit.encode()).hexdigest()[:6]}"


def schedules_of(found: Subjects) -> dict[str, dg.ScheduleDefinition]:
    """Audit -> its schedule, where its file has one that Dagster can follow."""
    made = {}
    for name, audit in found.audits.items():
        if audit.schedule is not None and found.owners[name] == name:
            # A date that never comes, such as 31 February, must not keep the code location from loading.
            with contextlib.suppress(dg.DagsterInvalidDefinitionError):
                made[name] = _schedule(name, audit.schedule)
    return made


def _schedule(name: str, cron: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        cron_schedule=cron,
        job=audit_job,
        name=schedule_name(name),
        description=f"Audits {name} again, and the adapters that it watches, at {cron} UTC (from audits/{name}.yaml).",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def audit_again(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        now = subjects()
        again = now.of(name)
        if not again:
            return dg.SkipReason(
                now.unread.get(name, f"audits/{name}.yaml is gone: stop this schedule, or put it back")
            )
        context.instance.add_dynamic_partitions(audit_subject.name, list(again))
        moment = context.scheduled_execution_time
        return [
            dg.RunRequest(
                run_key=f"{subject} at {moment.isoformat()}", partition_key=subject, tags={REASON: f"schedule {cron}"}
            )
            for subject in again
        ]

    return audit_again


SCHEDULES = schedules_of(subjects())
CRONS = {name: schedule.cron_schedule for name, schedule in SCHEDULES.items()}


@dg.sensor(
    job=audit_job,
    name="audit_subjects",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Registers new audits and new adapters in watched folders as partitions, and audits what changed.",
)
def audit_subjects(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Every audit file, every adapter in a watched folder; what it has to say stands in the tick, or in its log."""
    found = subjects()
    tick = look_at(found, context.cursor, CRONS)
    known = set(context.instance.get_dynamic_partitions(audit_subject.name))
    new = [name for name in found.audits if name not in known]
    requests = [
        dg.RunRequest(
            run_key=f"{name} {tick.seen[name].digest[:16]} {tick.seen[name].changes}",
            partition_key=name,
            tags={REASON: reason},
        )
        for name, reason in tick.reasons.items()
    ]
    # A tick that asks for runs has no message of its own: what is to be said goes to its log.
    for sentence in tick.said if requests else ():
        context.log.warning(sentence)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "\n".join(tick.said) or f"{len(found.audits)} subjects, none changed.",
        cursor=cursor_of(tick),
        dynamic_partitions_requests=[audit_subject.build_add_request(new)] if new else [],
        asset_events=[_observed(name, tick.seen[name].digest) for name in tick.reasons],
    )


def _observed(name: str, digest: str) -> dg.AssetObservation:
    return dg.AssetObservation(audit_inputs.key, partition=name, tags={DATA_VERSION_TAG: digest})


def _schedules_to_load(found: Subjects, loaded: Mapping[str, str]) -> Iterator[str]:
    for name, audit in found.audits.items():
        if found.owners[name] != name or audit.schedule == loaded.get(name):
            continue
        if audit.schedule is not None and not schedules_of(Subjects({name: audit}, {name: name}, {})):
            yield f"{name}: schedule {audit.schedule!r} names a time that never comes; change it in its file."
        else:
            yield f"{name}: its schedule is now {audit.schedule or 'none'}; reload the code location to see it."


# Follows the automation conditions of the audit's assets, which look at `audit_inputs`: an alternative to the run
# requests of the sensor above, for those who want Dagster's declarative automation.
audit_automation = dg.AutomationConditionSensorDefinition(
    "audit_automation", target=dg.AssetSelection.groups(GROUP), default_status=dg.DefaultSensorStatus.STOPPED
)
