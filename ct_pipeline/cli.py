"""ct-pipeline: the command line, thin over the same stages and assets as the Dagster UI."""

import sys
from pathlib import Path
from typing import Annotated

from ct_pipeline.settings.environment import choose_executor, prepare_environment

prepare_environment()

import typer  # noqa: E402
from rich.console import Console  # noqa: E402

from ct_pipeline.settings.errors import UserError, printable_lines  # noqa: E402

app = typer.Typer(
    help="Audits consistency training: organisms, labels, retraining, measurement, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

audit = typer.Typer(help="Audits of your own model: before and after, or the labels alone.", no_args_is_help=True)
app.add_typer(audit, name="audit")

judge = typer.Typer(help="Judges of answers: models by rubric, or rules.", no_args_is_help=True)
app.add_typer(judge, name="judge")

database = typer.Typer(help="The database of Dagster and MLflow.", no_args_is_help=True)
app.add_typer(database, name="database")

SpecOption = Annotated[Path, typer.Option("--spec", help="The study file.")]
OnlyOption = Annotated[
    str, typer.Option("--only", help="Models, misalignments, methods or seeds, separated by commas.")
]
ArtifactArgument = Annotated[
    str, typer.Argument(help="Its folder or fingerprint, stage/subject/variant, organism/method, or a report's page.")
]
AuditName = Annotated[str, typer.Argument(help="The audit's name, or its file.")]
SeedsOption = Annotated[int | None, typer.Option("--seeds", help="Only the first N seeds of the study.")]
ExecutorOption = Annotated[
    str, typer.Option(help="Who runs the steps: in_process or ray [CT_PIPELINE_EXECUTOR, else in_process].")
]
WorkersOption = Annotated[int, typer.Option(help="Worker processes; 0: one per GPU, else one per core.", min=0)]


@app.command()
def study(
    spec: SpecOption = Path("studies/tiny.yaml"),
    only: OnlyOption = "",
    seeds: SeedsOption = None,
    workers: WorkersOption = 0,
    executor: ExecutorOption = "",
) -> None:
    """Runs whatever is missing of a study and says where its report is."""
    from ct_pipeline.commands.study import run_study

    choose_executor(executor)
    console = Console(highlight=False)
    page = run_study(spec, _names(only), seeds, workers, console)
    console.print(f"Report: {page}", soft_wrap=True)


@app.command()
def plan(
    spec: Annotated[Path, typer.Argument(help="The study file.")] = Path("studies/tiny.yaml"),
    only: OnlyOption = "",
    seeds: SeedsOption = None,
    power: Annotated[
        bool, typer.Option("--power", help="What the study can find, and the prompts and seeds that changes need.")
    ] = False,
    effect: Annotated[
        list[float] | None,
        typer.Option(help="With --power: a change to plan for, in percentage points; may be repeated."),
    ] = None,
    seed_sd: Annotated[
        float | None, typer.Option(help="With --power: how much seeds differ, in percentage points (default: as seen).")
    ] = None,
    chance: Annotated[float | None, typer.Option(help="With --power: chance of finding it, in percent [80].")] = None,
    workers: WorkersOption = 0,
    drawn: Annotated[
        float, typer.Option(min=1, help="Tokens per second that a GPU draws from a model of 8B parameters.")
    ] = 10_000,
    trained: Annotated[float, typer.Option(min=1, help="Tokens per second that a GPU trains such a model on.")] = 5_000,
) -> None:
    """Says what a study would do, before anything runs."""
    from ct_pipeline.commands.plan import print_plan
    from ct_pipeline.commands.power import PowerOptions
    from ct_pipeline.planning.plan import Rates

    said = {"--effect": effect or None, "--seed-sd": seed_sd, "--chance": chance}
    lone = [name for name, value in said.items() if value is not None]
    if lone and not power:
        raise UserError(f"{', '.join(lone)}: only with --power; add it")
    options = PowerOptions(tuple(effect or ()), seed_sd, 80.0 if chance is None else chance)
    rates = Rates(drawn, trained)
    print_plan(spec, _names(only), seeds, Console(highlight=False), options if power else None, workers, rates)


@app.command()
def calibrate(
    only: Annotated[str, typer.Option("--only", help="Planted worlds, separated by commas.")] = "",
    seeds: SeedsOption = None,
    workers: WorkersOption = 0,
) -> None:
    """Runs the planted worlds and says which planted effects were recovered; exit code 1 where one was not."""
    from ct_pipeline.commands.calibrate import calibrate as run_worlds

    raise typer.Exit(0 if run_worlds(_names(only), seeds, workers, Console(highlight=False)) else 1)


@app.command()
def doctor(spec: SpecOption = Path("studies/tiny.yaml")) -> None:
    """Says what this machine can run and what is missing; exit code 1 where the study cannot run."""
    from ct_pipeline.commands.doctor import examine

    raise typer.Exit(0 if examine(spec, Console(highlight=False)) else 1)


@app.command()
def report(spec: SpecOption = Path("studies/tiny.yaml")) -> None:
    """Writes the report of what is finished and says where it is."""
    from ct_pipeline.interventions.files import read_study
    from ct_pipeline.records import study_report
    from ct_pipeline.settings.environment import home
    from ct_pipeline.store.sharing import open_store

    store = open_store(home() / "artifacts")
    store.prepare()
    Console(highlight=False).print(
        f"Report: {study_report.make(store, read_study(spec), home() / 'reports')}", soft_wrap=True
    )


@app.command()
def lineage(
    artifact: ArtifactArgument,
    json: Annotated[Path | None, typer.Option("--json", help="A file for all of it as JSON.")] = None,
) -> None:
    """Shows all that led to an artifact: data, seeds, settings, code, versions; exit code 1 where a link is broken."""
    from ct_pipeline.commands.lineage import print_lineage

    raise typer.Exit(0 if print_lineage(artifact, json, Console(highlight=False)) else 1)


@app.command()
def verify(
    artifact: ArtifactArgument,
    reexecute: Annotated[
        bool, typer.Option("--reexecute", help="Train one segment, chosen by chance, again and compare.")
    ] = False,
    reexecute_all: Annotated[
        bool, typer.Option("--reexecute-all", help="Train everything in the chain again, to its end.")
    ] = False,
    spec: SpecOption = Path("studies/tiny.yaml"),
) -> None:
    """Checks hashes and seals of an artifact and of all it was made from; exit code 1 where something does not fit."""
    from ct_pipeline.commands.verify import verify as check

    amount = "all" if reexecute_all else "one" if reexecute else "nothing"
    raise typer.Exit(0 if check(artifact, amount, spec, Console(highlight=False)) else 1)


@app.command()
def sync(
    spec: SpecOption = Path("studies/tiny.yaml"),
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Also fetch all finished work of the study, weights included.")
    ] = False,
) -> None:
    """Uploads what CT_PIPELINE_REMOTE lacks of the finished work of this machine."""
    from ct_pipeline.commands.sync import sync as run_sync

    run_sync(spec if fetch else None, Console(highlight=False))


@app.command()
def prune(
    spec: Annotated[list[Path], typer.Option("--spec", help="A study whose work is kept; may be repeated.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, delete nothing.")] = False,
    remote: Annotated[bool, typer.Option("--remote", help="In CT_PIPELINE_REMOTE, too.")] = False,
) -> None:
    """Deletes what no given study, no audit and no lineage of theirs needs: work of older settings, damaged copies."""
    from ct_pipeline.commands.prune import prune as run_prune

    run_prune(tuple(spec), dry_run, remote, Console(highlight=False))


@app.command()
def transcripts(
    name: Annotated[str, typer.Argument(help="An audit, an organism such as tiny-sycophancy-40, or organism/method.")],
    view: Annotated[bool, typer.Option("--view", help="Open them in Inspect View on 127.0.0.1 until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(help="Of Inspect View.", min=1, max=65535)] = 7575,
) -> None:
    """Writes every stored prompt and answer, before and after, as Inspect logs, and says where they are."""
    from ct_pipeline.commands.transcripts import write_transcripts

    write_transcripts(name, port if view else None, Console(highlight=False))


@app.command()
def ui(
    spec: SpecOption = Path("studies/tiny.yaml"),
    dagster_port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Serves the Dagster UI and the MLflow UI on 127.0.0.1 until Ctrl-C."""
    from ct_pipeline.commands.ui import serve

    serve(spec, dagster_port, mlflow_port, Console(highlight=False))


@audit.command("init")
def audit_init(
    file: Annotated[Path | None, typer.Argument(help="The file to write [audits/my-model.yaml].")] = None,
    cell: Annotated[
        str | None, typer.Option("--cell", help="A finished cell of a study, such as tiny-sycophancy-40/bct.")
    ] = None,
    spec: SpecOption = Path("studies/tiny.yaml"),
) -> None:
    """Writes an audit file: a commented template, or the audit of a study's cell."""
    from ct_pipeline.commands.audit_files import init_audit

    init_audit(file, cell, spec, Console(highlight=False))


@audit.command("add")
def audit_add(file: Annotated[Path, typer.Argument(help="An audit file.")]) -> None:
    """Checks an audit file and all it names, and copies it into the folder of audits."""
    from ct_pipeline.commands.audit_files import add_audit

    add_audit(file, Console(highlight=False))


@audit.command("run")
def audit_run(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Audits, by name or file.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every audit, and every adapter in a watched folder.")] = False,
    gate: Annotated[bool, typer.Option("--gate", help="Exit code 3 unless the gate says PASS.")] = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write a JSON summary here.")] = None,
) -> None:
    """Makes what is missing of audits and says what they found."""
    from ct_pipeline.commands.audit import run_audits

    raise typer.Exit(run_audits(names or (), every, gate, junit, json, Console(highlight=False)))


@audit.command("show")
def audit_show(name: AuditName) -> None:
    """Shows the audit card of the last run."""
    from ct_pipeline.commands.audit import show_audit

    show_audit(name, Console(highlight=False))


@audit.command("diff")
def audit_diff(name: AuditName) -> None:
    """Says what differs between the last two runs."""
    from ct_pipeline.commands.audit import diff_audit

    diff_audit(name, Console(highlight=False))


@audit.command("list")
def audit_list() -> None:
    """Lists audits with their last run, verdict, gate, age, drift and whether they are overdue."""
    from ct_pipeline.commands.audit import list_audits

    list_audits(Console(highlight=False))


@judge.command("check")
def judge_check(
    settings: Annotated[Path, typer.Argument(help="A judge file.")],
    calibration: Annotated[Path, typer.Option("--calibration", help="Answers labelled by hand, JSONL.")],
    against: Annotated[
        Path | None, typer.Option("--against", help="Another judge file: how far the two agree.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write all numbers here.")] = None,
) -> None:
    """Has labelled answers judged and says how often the judge errs, what it cost, and whether another one agrees."""
    from ct_pipeline.commands.judge import check_judge

    check_judge(settings, calibration, against, json, Console(highlight=False))


@database.command("migrate")
def database_migrate() -> None:
    """Makes the tables of Dagster and MLflow, or brings them to the installed versions."""
    from ct_pipeline.commands.database import migrate

    migrate(Console(highlight=False))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main() -> None:
    """The entry point: what a person can mend is one message and exit code 2, without a traceback."""
    try:
        app()
    except UserError as error:
        Console(stderr=True, highlight=False).print(
            f"ct-pipeline: {printable_lines(error)}", style="red", markup=False, soft_wrap=True
        )
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. Finished work is kept; the same command goes on from here.")
        sys.exit(130)


if __name__ == "__main__":
    main()
