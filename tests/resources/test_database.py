"""The address of the database: what is accepted, what is shown of it, and what is said where it is of no use."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy.engine import make_url

from ct_pipeline.commands.dagster_home import prepare_dagster_home
from ct_pipeline.resources.database import Database, DatabaseError, database
from ct_pipeline.resources.tracking_store import artifact_root, require_artifact_store, require_same_place, tracking_uri
from ct_pipeline.settings.environment import DATABASE_VARIABLE, TRACKED_FILES_VARIABLE
from ct_pipeline.settings.errors import UserError
from tests.e2e.test_served import free_port

ADDRESS = "postgresql://ann:s%40cret@db.example:6432/audits?sslmode=require"


@pytest.fixture
def named(monkeypatch):
    return lambda text: monkeypatch.setenv(DATABASE_VARIABLE, text)


@pytest.mark.parametrize("text", ["", "  "])
def test_without_an_address_there_is_none_and_mlflow_has_a_file(named, text, monkeypatch, tmp_path):
    named(text)
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path))
    assert database() is None
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow/mlflow.db"


@pytest.mark.parametrize("text", [ADDRESS, ADDRESS.replace("postgresql:", "postgresql+psycopg2:")])
def test_the_driver_is_named_and_the_rest_is_kept(named, text):
    named(text)
    assert database().dagster_url == ADDRESS.replace("postgresql:", "postgresql+psycopg2:")
    assert str(database()) == "ann@db.example:6432/audits"
    assert "s@cret" not in repr(database()) and "s%40cret" not in repr(database())


def test_mlflow_has_a_schema_of_its_own_beside_given_options(named):
    named(f"{ADDRESS}&options=-cstatement_timeout%3D5s")
    query = make_url(tracking_uri()).query
    assert query == {"sslmode": "require", "options": "-cstatement_timeout=5s -csearch_path=mlflow"}
    assert make_url(tracking_uri()).password == "s@cret"


@given(some.text(some.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_password_survives_the_way_to_dagster_and_mlflow(password):
    server = Database(make_url("postgresql+psycopg2://ann@db/audits").set(password=password))
    for text in (server.dagster_url, server.mlflow_url):
        assert make_url(text).password == password


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        "postgres://ann:secret@db/audits",
        "mysql://ann:secret@db/audits",
        "postgresql://ann:secret@db",
        "postgresql://ann:se@cret@db/audits",
        "postgresql://ann:secret@db:port/audits",
    ],
)
def test_what_is_no_address_is_refused_and_not_shown(named, text):
    named(text)
    with pytest.raises(DatabaseError, match="CT_PIPELINE_DATABASE: found something that is not the address") as told:
        database()
    shown = str(told.value)
    assert "postgresql://USER:PASSWORD@HOST" in shown and "secret" not in shown and "cret@" not in shown
    assert told.value.__context__ is None or told.value.__suppress_context__


@pytest.mark.parametrize("package", ["psycopg2", "dagster_postgres"])
def test_a_missing_package_is_named_with_the_extra(named, monkeypatch, package):
    named(ADDRESS)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DatabaseError, match=rf"{package} is not installed: pip install \"ct-pipeline\[postgres\]\""):
        database()


def test_a_server_that_does_not_run_is_said_at_once(named, monkeypatch, tmp_path):
    port = free_port()
    named(f"postgresql://ann:s%40cret@127.0.0.1:{port}/audits")
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "")
    with pytest.raises(DatabaseError, match=f"no connection to PostgreSQL ann@127.0.0.1:{port}/audits") as told:
        prepare_dagster_home()
    assert "is the server running" in str(told.value) and "s@cret" not in str(told.value)


def test_dagsters_settings_name_the_variable_only_where_there_is_a_database(named, monkeypatch, tmp_path):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "")
    named("")
    written = (prepare_dagster_home() / "dagster.yaml").read_text()
    assert "storage:" not in written
    assert sorted(path.name for path in (tmp_path / "dagster").iterdir()) == ["dagster.yaml"]


def test_mlflows_tables_lie_where_they_are_wanted(monkeypatch, tmp_path):
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path))
    monkeypatch.delenv(TRACKED_FILES_VARIABLE, raising=False)
    assert artifact_root() == f"file://{tmp_path}/mlflow/artifacts"
    monkeypatch.setenv(TRACKED_FILES_VARIABLE, "s3://bucket/mlflow/")
    assert artifact_root() == "s3://bucket/mlflow"
    require_artifact_store("s3://bucket/mlflow/tiny")
    with pytest.raises(UserError, match="CT_PIPELINE_MLFLOW_ARTIFACTS: found tape://reel; allowed: a URI"):
        require_artifact_store("tape://reel")


@pytest.mark.parametrize(("uri", "package"), [("s3://bucket/mlflow", "boto3"), ("gs://bucket/mlflow", "google")])
def test_a_driver_that_mlflow_lacks_is_named(monkeypatch, uri, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"MLflow needs the package {package}"):
        require_artifact_store(uri)


def test_an_experiment_keeps_its_place(monkeypatch):
    monkeypatch.delenv(TRACKED_FILES_VARIABLE, raising=False)
    require_same_place("tiny", "file:///old/tiny", "file:///new/tiny")
    monkeypatch.setenv(TRACKED_FILES_VARIABLE, "s3://bucket")
    require_same_place("tiny", "s3://bucket/tiny", "s3://bucket/tiny")
    with pytest.raises(UserError, match="tiny keeps its tables at file:///old/tiny"):
        require_same_place("tiny", "file:///old/tiny", "s3://bucket/tiny")
