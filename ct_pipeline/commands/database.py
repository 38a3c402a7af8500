"""`ct-pipeline database migrate`: the tables of Dagster and MLflow, made or brought to the installed versions."""

from rich.console import Console

from ct_pipeline.commands.dagster_home import prepare_dagster_home
from ct_pipeline.resources.database import database
from ct_pipeline.resources.tracking_store import only_one, tracking_uri


def migrate(console: Console) -> None:
    """Makes or upgrades the tables of both, one process at a time; UserError where the database cannot be used."""
    import dagster as dg

    server = database()
    console.print(f"Database: {server or 'SQLite files under CT_PIPELINE_HOME'}", markup=False)
    prepare_dagster_home()
    with only_one(tracking_uri(), "schema"):
        with dg.DagsterInstance.get() as instance:
            instance.upgrade()
        _upgrade_mlflow(tracking_uri())
    console.print("The tables of Dagster and MLflow fit the installed versions.")


def _upgrade_mlflow(uri: str) -> None:
    """As `mlflow db upgrade` does, without the address on a command line."""
    import logging

    from mlflow.db import upgrade

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    upgrade.callback(uri)
