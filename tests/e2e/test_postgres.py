"""A real PostgreSQL server as the store of Dagster and MLflow: crowded, restarted, refused, and with a whole study."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import alembic.command
import dagster as dg
import mlflow.store.db.utils as mlflow_database
import pytest
from mlflow import MlflowClient
from rich.console import Console

from ct_pipeline.commands.dagster_home import prepare_dagster_home
from ct_pipeline.commands.database import migrate
from ct_pipeline.interventions.files import read_study
from ct_pipeline.resources.database import DatabaseError, database
from ct_pipeline.resources.tracking import FINGERPRINT, TrackingResource
from ct_pipeline.settings.environment import DATABASE_VARIABLE
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.steps.catalog import STUDY_STEPS
from tests.e2e.postgres import PASSWORD, Server, programs, running_server
from tests.e2e.postgres_worker import EXPERIMENT
from tests.e2e.runs import ROOT, Place
from tests.e2e.test_served import free_port, group_members

pytestmark = pytest.mark.skipif(programs() is None, reason="no initdb: apt-get install postgresql")
WORKERS, ROUNDS = 6, 3
ONLY = ("sycophancy", "bct", "null")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Lets this process use a database, with a results folder of its own."""

    def choose(url: str) -> None:
        monkeypatch.setenv(DATABASE_VARIABLE, url)
        monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
        monkeypatch.setenv("DAGSTER_HOME", "")

    return choose


def mlflow_runs(experiment: str) -> list:
    client = MlflowClient(tracking_uri=database().mlflow_url)
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id], max_results=1000)


def test_six_processes_record_at_once_on_a_fresh_database(server: Server, use: Callable, tmp_path: Path) -> None:
    use(server.create("crowded"))
    crowd = []
    for number in range(WORKERS):
        # A folder for temporary files each, as on six machines: MLflow's own lock is a file there.
        (tmp_path / f"tmp-{number}").mkdir()
        command = [sys.executable, "-W", "ignore", "-m", "tests.e2e.postgres_worker", str(number), str(ROUNDS)]
        environment = os.environ | {"TMPDIR": str(tmp_path / f"tmp-{number}"), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        crowd.append(subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes))
    for process in crowd:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in crowd:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=900) for process in crowd]
    assert [process.returncode for process in crowd] == [0] * WORKERS, told

    own = {f"{number}-{count}" for number in range(WORKERS) for count in range(ROUNDS)}
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        assert Counter(run.status.value for run in instance.get_runs()) == {"SUCCESS": len(own)}
        events = instance.fetch_materializations(dg.AssetKey("recorded"), limit=1000).records
        assert Counter(event.partition_key for event in events) == Counter(own)
    runs = mlflow_runs(EXPERIMENT)
    shared = {f"shared-{count}" for count in range(ROUNDS)}
    assert Counter(run.data.tags[FINGERPRINT] for run in runs) == Counter(own | shared)
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.fixture(scope="module")
def studied(server: Server, finished: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str]:
    """Results that were made with SQLite, moved to PostgreSQL by the study command, one cell made again there."""
    place, url = finished.copy(tmp_path_factory.mktemp("moved") / "results"), server.create("study")
    for stage in ("retrained_model", "evaluation"):
        shutil.rmtree(place.home / "artifacts" / stage / "tiny-sycophancy-40" / "bct")
    outcome = place.run("study", "--spec", str(place.spec), "--only", ",".join(ONLY), **{DATABASE_VARIABLE: url})
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert not secret_in(outcome.stdout + outcome.stderr)
    return place, url


def secret_in(text: str) -> bool:
    return PASSWORD in text or quote(PASSWORD, safe="") in text


@pytest.mark.slow
def test_a_study_is_wholly_recorded(studied: tuple[Place, str], use: Callable) -> None:
    place, url = studied
    use(url)
    study = narrowed(read_study(place.spec), ONLY, None)
    runs = mlflow_runs(study.name)
    assert Counter(run.data.tags["mlflow.runName"] for run in runs) == Counter(
        [organism.key for organism in study.organisms] + [cell.key for cell in study.cells]
    )
    assert {run.info.status for run in runs} == {"FINISHED"}
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        assert {run.status.value for run in instance.get_runs()} == {"SUCCESS"}
        for stage in STUDY_STEPS:
            known = instance.get_materialized_partitions(dg.AssetKey(stage.name))
            assert len(known) == len(stage.keys(study)), stage.name


@pytest.mark.slow
def test_the_password_is_in_no_file_and_no_sqlite_file_is_made(studied: tuple[Place, str]) -> None:
    files = [path for path in studied[0].home.rglob("*") if path.is_file()]
    assert "env: CT_PIPELINE_DATABASE" in (studied[0].home / "dagster" / "dagster.yaml").read_text()
    assert [path for path in files if secret_in(path.read_text(errors="ignore"))] == []
    assert [path for path in files if path.suffix == ".db"] == []


@pytest.mark.slow
def test_the_doctor_names_the_server_without_the_password(studied: tuple[Place, str], server: Server) -> None:
    place, url = studied
    outcome = place.run("doctor", "--spec", str(place.spec), **{DATABASE_VARIABLE: url})
    assert outcome.returncode == 0, outcome.stdout
    assert f"auditor@127.0.0.1:{server.port}/study" in outcome.stdout
    wrong = server.url("study", "wr@ng")
    outcome = place.run("doctor", "--spec", str(place.spec), **{DATABASE_VARIABLE: wrong})
    assert outcome.returncode == 1
    assert "password authentication failed" in " ".join(outcome.stdout.split())
    assert "wr@ng" not in outcome.stdout and "wr%40ng" not in outcome.stdout


@pytest.mark.slow
def test_both_servers_run_on_it_and_show_no_password(studied: tuple[Place, str]) -> None:
    place, url = studied
    ports = str(free_port()), str(free_port())
    command = place.command("ui", "--spec", str(place.spec), "--dagster-port", ports[0], "--mlflow-port", ports[1])
    environment = place.environment | {DATABASE_VARIABLE: url}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    experiment = f"http://127.0.0.1:{ports[1]}/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=reduced"
    try:
        assert any(line.startswith("Ctrl-C") for line in process.stdout), "the UI ended"
        with urllib.request.urlopen(experiment, timeout=30) as page:
            assert page.status == 200
        commands = group_members(process.pid) + [
            path.read_text(errors="ignore") for path in Path("/proc").glob("[0-9]*/cmdline")
        ]
        assert any(ports[1] in line for line in commands)
        assert not any(secret_in(line) for line in commands)
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.wait(timeout=60)
    assert not group_members(process.pid)
    assert not any(secret_in(log.read_text()) for log in (place.home / "dagster" / "logs").iterdir())


def test_what_cannot_be_reached_is_said_without_the_password(server: Server, use: Callable) -> None:
    use(server.url("absent"))
    with pytest.raises(DatabaseError, match='database "absent" does not exist; create the user') as told:
        prepare_dagster_home()
    assert not secret_in(str(told.value))
    use(server.url("postgres", "wrong one"))
    with pytest.raises(DatabaseError, match=r"password authentication failed.*PGPASSWORD") as told:
        TrackingResource().open("any")
    assert "wrong one" not in str(told.value)


def test_a_lock_that_is_held_is_not_waited_for_for_ever(
    server: Server, use: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(server.create("held"))
    monkeypatch.setattr("ct_pipeline.resources.database.LOCK_SECONDS", 1)
    held, refused = (
        database().lock("one"),
        pytest.raises(DatabaseError, match="another process has held the lock 'one'"),
    )
    with held, database().lock("another"), refused, database().lock("one"):
        pass


def test_a_user_without_rights_is_told_what_the_owner_must_run(server: Server, use: Callable) -> None:
    use(server.create("owned"))
    server.sql("owned", "CREATE USER guest PASSWORD 'guest'")
    use(server.url("owned").replace("auditor:", "guest:").replace(quote(PASSWORD, safe=""), "guest"))
    with pytest.raises(DatabaseError, match="must own the database"):
        prepare_dagster_home()
    with pytest.raises(DatabaseError, match='CREATE SCHEMA mlflow AUTHORIZATION "guest"'):
        TrackingResource().open("any")


def test_tables_of_an_older_version_are_migrated_or_refused(server: Server, use: Callable) -> None:
    url = server.create("older")
    use(url)
    with database().connect() as connection:
        database().prepare_mlflow(connection)
    engine = mlflow_database.create_sqlalchemy_engine(database().mlflow_url)
    mlflow_database.InitialBase.metadata.create_all(engine)
    settings = mlflow_database._get_alembic_config(database().mlflow_url)
    older = mlflow_database.ScriptDirectory.from_config(settings).get_revision("head").down_revision
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        alembic.command.upgrade(settings, older)
    migrate(Console(quiet=True))
    assert TrackingResource().open("any").experiment
    server.sql("older", f"UPDATE mlflow.alembic_version SET version_num = '{older}'")
    # MLflow keeps the store of an address open: another address of the same database.
    use(f"{url}?application_name=again")
    with pytest.raises(UserError, match="take a backup, then run: ct-pipeline database migrate"):
        TrackingResource().open("another")
