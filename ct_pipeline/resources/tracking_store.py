"""Where MLflow keeps runs and their tables, and how processes keep out of each other's way there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ct_pipeline.resources.database import database
from ct_pipeline.settings.environment import TRACKED_FILES_VARIABLE, home, mlflow_artifacts
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.locks import locked


def tracking_uri() -> str:
    """MLflow's backend store: CT_PIPELINE_DATABASE (password included), else a SQLite file."""
    server = database()
    return server.mlflow_url if server else f"sqlite:///{home() / 'mlflow' / 'mlflow.db'}"


def artifact_root() -> str:
    """URI under which experiments keep their tables: CT_PIPELINE_MLFLOW_ARTIFACTS, else CT_PIPELINE_HOME/mlflow."""
    return mlflow_artifacts() or (home() / "mlflow" / "artifacts").as_uri()


def require_artifact_store(uri: str) -> None:
    """UserError where MLflow cannot keep files under a URI: an unknown scheme, or a driver that is not installed."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        get_artifact_repository(uri)
        if uri.startswith("s3:"):
            # MLflow imports it only when it writes.
            import boto3  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{TRACKED_FILES_VARIABLE}: found {uri}; MLflow needs the package {error.name} for it: pip install {error.name}"
        ) from None
    except MlflowException as error:
        raise UserError(
            f"{TRACKED_FILES_VARIABLE}: found {uri}; allowed: a URI that MLflow can write, such as s3://bucket/mlflow or "
            f"file:///folder ({error.message})"
        ) from None


def require_same_place(experiment: str, kept: str, asked: str) -> None:
    """UserError where a place is asked for that an experiment does not have: MLflow fixes it when it is made."""
    if mlflow_artifacts() and kept != asked:
        raise UserError(
            f"{TRACKED_FILES_VARIABLE}: the MLflow experiment {experiment} keeps its tables at {kept}, which MLflow cannot "
            f"change to {asked}: unset the variable, or give the study another name"
        )


@contextlib.contextmanager
def outdated_schema_told() -> Iterator[None]:
    """Turns MLflow's refusal of an older database into what is to be typed."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if "out-of-date database schema" not in str(error):
            raise
        raise UserError(
            "MLflow's tables were made by another version: take a backup, then run: ct-pipeline database migrate"
        ) from None


@contextlib.contextmanager
def only_one(uri: str, name: str) -> Iterator[None]:
    """Lets one process at a time do a thing on a tracking database; on SQLite one process do any such thing.

    Several processes that open a fresh database at once would leave it broken.
    """
    if uri.startswith("sqlite:"):
        with locked(Path(uri.removeprefix("sqlite:///")).with_name(".lock")):
            yield
        return
    server = database()
    if server is None or uri != server.mlflow_url:
        yield
        return
    with server.lock(f"mlflow {name}") as connection:
        server.prepare_mlflow(connection)
        yield
