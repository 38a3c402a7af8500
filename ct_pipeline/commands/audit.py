"""`ct-pipeline audit ...`: audits of one's own model: run, show, compare, list; nothing heavy is imported for what is there."""

import contextlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ct_pipeline.commands.audit_in_dagster import Unreachable, materialize
from ct_pipeline.interventions.files import read_audit
from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.records.audit_overdue import overdue_since
from ct_pipeline.records.audit_runs import Record, artifact_of, report_folder, runs
from ct_pipeline.records.audit_watch import audit_of, subjects
from ct_pipeline.report.audit_card import sections, sentences
from ct_pipeline.report.audit_page import drifted
from ct_pipeline.report.audit_summary import (
    NO_SOLUTION,
    NOT_APPLICABLE,
    PASS,
    Finding,
    findings,
    outcome_of,
    refusal_findings,
    summary,
)
from ct_pipeline.report.junit import junit_xml
from ct_pipeline.report.section import Sentences, Text, words
from ct_pipeline.report.section import Table as ShownTable
from ct_pipeline.report.wording import MISSING, duration, moment, percent, points
from ct_pipeline.runner.audit_run import resolved, run_audit
from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import Refused, UserError, printable, printable_lines
from ct_pipeline.steps.audit_verdict import NAME as VERDICT
from ct_pipeline.steps.catalog import AUDIT_STEPS
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.sharing import open_store

REFUSED, GATE_CLOSED = 2, 3
"""Exit codes: an audit could not be run; with `--gate` the outcome is not PASS: NO SOLUTION FOUND."""
COLOURS = {PASS: "green", NO_SOLUTION: "red", NOT_APPLICABLE: "yellow"}


def run_audits(
    names: Sequence[str], every: bool, gate: bool, junit: Path | None, summary_file: Path | None, console: Console
) -> int:
    """Runs audits one after another, `every`: all of the audits folder and of the folders they watch; returns the exit code.

    0; with `gate` GATE_CLOSED where an outcome is not PASS, and 0 where nothing was trained yet. Of several audits one that
    cannot be run does not keep the others from running: it is named, and the exit code is REFUSED.

    Raises:
        UserError: the one audit that was asked for cannot be run; no audit, or files for a CI system of several of them.
    """
    if bool(names) == every:
        raise UserError("name the audits to run, or give --all; ct-pipeline audit list shows which there are")
    if not every and len(names) == 1:
        return _run_audit(names[0], gate, junit, summary_file, console)
    if junit is not None or summary_file is not None:
        raise UserError("--junit and --json are about one audit: name one")
    known = subjects() if every else None
    codes = [0]
    for name in names if known is None else known.audits:
        try:
            codes.append(_run_audit(name, gate, None, None, console))
        except UserError as error:
            console.print(f"[red]{escape(name)}:[/] {escape(printable_lines(error))}", soft_wrap=True)
            codes.append(REFUSED)
        console.print()
    for why in () if known is None else known.unread.values():
        console.print(f"[red]{escape(why)}[/]", soft_wrap=True)
        codes.append(REFUSED)
    return REFUSED if REFUSED in codes else max(codes)


def _run_audit(name: str, gate: bool, junit: Path | None, summary_file: Path | None, console: Console) -> int:
    """Runs an audit, prints what it found, and writes what a CI system reads, also where files are refused."""
    audit, store = read(name), _store()
    try:
        record = _run(store, audit, Path(name) if _is_file(name) else None, console)
    except Refused:
        record = runs(home(), audit.name)[-1]
        _write_for_ci(record, list(refusal_findings(record["refusals"])), junit, summary_file)
        console.print(f"[red]Refused:[/] audit {audit.name}; nothing of these files was used.")
        raise
    card = _card(store, record)
    found = list(findings(card))
    _print_run(record, card, found, console)
    _write_for_ci(record, found, junit, summary_file)
    return GATE_CLOSED if gate and outcome_of(record) not in (PASS, NOT_APPLICABLE) else 0


def _run(store: ArtifactStore, audit: Audit, file: Path | None, console: Console) -> Record:
    """Makes what is missing through Dagster; where nothing is, the record alone is written.

    Where its database cannot be used, the audit is made without it, and that is said.
    """
    started, past = time.perf_counter(), len(runs(home(), audit.name))

    def watch(what: str) -> None:
        console.print(f"making: {escape(what)}")

    subject = resolved(store, audit, home())
    if all(step.find(store, None, subject) is not None for step in AUDIT_STEPS):
        took = {step.name: 0.0 for step in AUDIT_STEPS} | {VERDICT: time.perf_counter() - started}
        return audit_records.record(store, subject, home(), [], took)
    try:
        failure = materialize(store, audit, file, watch)
    except Unreachable as error:
        console.print(f"[yellow]Dagster cannot show this run: {escape(printable_lines(error))}[/]", soft_wrap=True)
        return run_audit(store, audit, home(), watch)
    found = runs(home(), audit.name)
    if len(found) == past:
        raise UserError(failure or f"audit {audit.name}: Dagster made no run and says no reason")
    return found[-1]


def show_audit(name: str, console: Console) -> None:
    """Prints the card of the last run that was finished."""
    record = _last_done(name)
    card = _card(_store(), record)
    _print_result(record, card, console)
    with contextlib.suppress(UserError):
        audit = read(name)
        if (due := overdue_since(audit, home())) is not None:
            told = f"due {moment(due.isoformat())} by its schedule {audit.schedule}, last run {moment(record['time'])}"
            console.print(f"[red]Overdue:[/] {escape(told)}")
    for section in sections(card):
        console.print(f"\n[bold]{escape(section.title)}[/]")
        for block in section.blocks:
            match block:
                case Text():
                    console.print(escape(printable(words(block.line))))
                case ShownTable():
                    console.print(_table(block.head, block.rows))
                case Sentences():
                    for line in block.lines:
                        console.print(f"- {escape(printable(words(line)))}")


def diff_audit(name: str, console: Console) -> None:
    """Prints what differs between the last two finished runs: inputs, verdicts, paired differences."""
    done = _done(name)
    if len(done) < 2:
        raise UserError(f"audit {name} has {len(done)} finished run: run it again to compare")
    last, now = done[-2:]
    console.print(f"Run {now['number']} ({moment(now['time'])}) against run {last['number']} ({moment(last['time'])}).")
    changed = audit_records.changed_inputs(last, now)
    console.print("Inputs: " + ("; ".join(escape(printable(each)) for each in changed) or "unchanged") + ".")
    rows = []
    for probe in dict.fromkeys([*last["probes"], *now["probes"]]):
        old, new = (run["probes"].get(probe) for run in (last, now))
        side = audit_records.measured_side(now)
        moved = now["drift"].get("differences", {}).get(probe)
        difference = (
            f"{points(moved['value'])} ({points(moved['low'])} to {points(moved['high'])})" if moved else MISSING
        )
        rows.append((probe, _risk(old, side), _risk(new, side), difference, _word(old), _word(new)))
    if rows:
        head = ("Probe", "Risk then", "Risk now", "Paired difference", "Verdict then", "Verdict now")
        console.print(_table(head, rows))
    if (last["gate"], now["gate"]) != (None, None):
        console.print(f"Gate: {last['gate'] or MISSING} then, {now['gate'] or MISSING} now.")
    _print_drift(now, console)


def list_audits(console: Console) -> None:
    """Prints every audit with its last run, verdict, gate, age, drift and whether it is overdue."""
    known = subjects()
    found = list(dict.fromkeys([*known.audits, *(name for name in known.unread), *audit_records.names(home())]))
    if not found:
        console.print("No audit yet: ct-pipeline audit init")
        return
    table = Table(box=None)
    table.add_column("Audit", overflow="fold")
    for head in ("Runs", "Last run", "Age", "Verdict", "Gate", "Drift", "Overdue"):
        table.add_column(head)
    for name in found:
        past = runs(home(), name)
        if not past:
            word = "cannot be read" if name in known.unread else "never run"
            table.add_row(escape(printable(name)), "0", MISSING, MISSING, word, MISSING, MISSING, MISSING)
            continue
        last = past[-1]
        refused = last["status"] == "refused"
        table.add_row(
            escape(name),
            str(len(past)),
            moment(last["time"]),
            _age(last["time"]),
            "refused" if refused else (last["overall"] or "labels only"),
            MISSING if refused else (last["gate"] or "not applicable"),
            "drift" if drifted(last) else "no",
            _overdue(known.audits.get(name)),
        )
    console.print(table)
    for why in known.unread.values():
        console.print(f"[yellow]{escape(why)}[/]", soft_wrap=True)


def read(name: str) -> Audit:
    """The audit of a name, of an adapter that an audit watches (name.adapter), or of a file; SpecError names mistakes."""
    return read_audit(Path(name)) if _is_file(name) else audit_of(name)


def _is_file(name: str) -> bool:
    return Path(name).suffix in (".yaml", ".yml")


def _print_run(record: Record, card: dict, found: Sequence[Finding], console: Console) -> None:
    _print_result(record, card, console)
    for one in found:
        if one.rule.startswith("gate"):
            console.print(f"  {escape(printable(one.text))}")
    for one in found:
        if one.rule == "prediction":
            console.print(f"Prediction, {escape(printable(one.place))}: {escape(printable(one.text))}")
    _print_drift(record, console)
    unopened = sum(len(each["unopened"]) for each in card["quarantine"])
    inspected = len(card["quarantine"])
    console.print(f"Quarantine: {inspected} inspected, none refused, {unopened} other files left unopened.")
    what = "nothing had changed, everything was reused" if record["reused"] else f"made: {', '.join(record['made'])}"
    console.print(f"Run {record['number']} in {duration(record['seconds'])}; {what}.")
    console.print(f"Card: {report_folder(home(), record['audit']) / 'index.html'}", soft_wrap=True)


def _print_result(record: Record, card: dict, console: Console) -> None:
    outcome = outcome_of(record)
    console.print(f"[bold]{escape(record['audit'])}[/], run {record['number']}: [{COLOURS[outcome]}]{outcome}[/]")
    for sentence in sentences(card):
        console.print(f"- {escape(printable(sentence))}")


def _print_drift(record: Record, console: Console) -> None:
    sentences_ = " ".join(escape(printable(each)) for each in record["drift"]["sentences"])
    console.print(f"[red]Drift:[/] {sentences_}" if drifted(record) else f"Drift: {sentences_}")


def _write_for_ci(record: Record, found: Sequence[Finding], junit: Path | None, summary_file: Path | None) -> None:
    """JUnit XML and the JSON summary, where they are asked for."""
    texts = {}
    if junit is not None:
        texts[junit] = junit_xml(record["audit"], record["time"], record["seconds"], found)
    if summary_file is not None:
        told = summary(record, found, version("ct-pipeline"))
        texts[summary_file] = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); name another file") from error


def _card(store: ArtifactStore, record: Record) -> dict:
    artifact = artifact_of(store, record, VERDICT)
    if artifact is None:
        raise UserError(f"audit {record['audit']}: the results of run {record['number']} are gone: run it again")
    return artifact.json("card") | {
        "run": {"number": record["number"], "time": record["time"]},
        "drift": record["drift"],
    }


def _done(name: str) -> list[Record]:
    return [run for run in runs(home(), name) if run["status"] == "done"]


def _last_done(name: str) -> Record:
    done = _done(name)
    if not done:
        known = ", ".join(audit_records.names(home())) or "none"
        raise UserError(
            f"audit {name!r} has no finished run; audits with runs: {known}. Run: ct-pipeline audit run {name}"
        )
    return done[-1]


def _store() -> ArtifactStore:
    store = open_store(home() / "artifacts")
    store.prepare()
    return store


def _risk(probe: dict | None, side: str) -> str:
    rate = None if probe is None else probe["risk"].get(side)
    return MISSING if rate is None else percent(rate["value"])


def _word(probe: dict | None) -> str:
    return (probe or {}).get("verdict") or MISSING


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*map(escape, head), box=None)
    for row in rows:
        table.add_row(*(escape(printable(field)) for field in row))
    return table


def _overdue(audit: Audit | None) -> str:
    """Whether a run is overdue; a dash for an audit without a schedule or a file."""
    if audit is None or audit.schedule is None:
        return MISSING
    due = overdue_since(audit, home())
    return "no" if due is None else f"since {moment(due.isoformat())}"


def _age(time: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
    days = int(seconds // 86400)
    return f"{days} d" if days else duration(max(0.0, seconds))
