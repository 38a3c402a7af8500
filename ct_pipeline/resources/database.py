"""The PostgreSQL database that Dagster and MLflow share, where CT_PIPELINE_DATABASE names one; else each has SQLite."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct_pipeline.settings.environment import DATABASE_VARIABLE, database_url
from ct_pipeline.settings.errors import UserError, printable

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

DRIVER = "postgresql+psycopg2"
MLFLOW_SCHEMA = "mlflow"
"""Both call a table `runs`: MLflow has a schema of its own, Dagster the database's default one."""
CONNECT_SECONDS = 10
LOCK_SECONDS = 300
FORM = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"


class DatabaseError(UserError):
    """The database cannot be used; the message holds no password."""


@dataclass(frozen=True)
class Database:
    """One database of a PostgreSQL server.

    Attributes:
        url: its address; as text it shows no password.
    """

    url: "URL"

    def __str__(self) -> str:
        """Its address for people: user, server and database, without password and options."""
        user = f"{self.url.username}@" if self.url.username else ""
        port = f":{self.url.port}" if self.url.port else ""
        return f"{user}{self.url.host or self.url.query.get('host', 'local socket')}{port}/{self.url.database}"

    @property
    def dagster_url(self) -> str:
        """What Dagster's storage is given, password included."""
        return self.url.render_as_string(hide_password=False)

    @property
    def mlflow_url(self) -> str:
        """MLflow's tracking URI, password included: the same database, with MLflow's schema as the default one."""
        given = self.url.query.get("options", "")
        options = f"{given} -csearch_path={MLFLOW_SCHEMA}".strip()
        return self.url.update_query_dict({"options": options}).render_as_string(hide_password=False)

    @contextlib.contextmanager
    def connect(self) -> "Iterator[Connection]":
        """A connection that commits every statement; DatabaseError where there is no connection to be had."""
        import sqlalchemy

        engine = sqlalchemy.create_engine(
            self.url.set(query={"connect_timeout": str(CONNECT_SECONDS), **self.url.query}),
            isolation_level="AUTOCOMMIT",
            poolclass=sqlalchemy.NullPool,
        )
        try:
            connection = engine.connect()
        except sqlalchemy.exc.DBAPIError as error:
            raise DatabaseError(self._refused(str(error.orig))) from None
        with connection:
            yield connection

    @contextlib.contextmanager
    def lock(self, name: str) -> "Iterator[Connection]":
        """Holds an advisory lock that one process of all machines can have at a time; it ends with its connection."""
        import sqlalchemy

        with self.connect() as connection:
            connection.execute(sqlalchemy.text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
            try:
                connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _lock_key(name)})
            except sqlalchemy.exc.OperationalError:
                raise DatabaseError(
                    f"{self}: another process has held the lock {name!r} for {LOCK_SECONDS} s; end it (pg_locks names its "
                    "pid) and run again"
                ) from None
            yield connection

    def prepare_mlflow(self, connection: "Connection") -> None:
        """Makes MLflow's schema where it is absent; to be called under a lock. DatabaseError where it may not."""
        import sqlalchemy

        try:
            connection.execute(sqlalchemy.text(f"CREATE SCHEMA IF NOT EXISTS {MLFLOW_SCHEMA}"))
        except sqlalchemy.exc.ProgrammingError:
            raise DatabaseError(
                f"{self}: the user may not create the schema {MLFLOW_SCHEMA}; let the database's owner run: CREATE SCHEMA "
                f'{MLFLOW_SCHEMA} AUTHORIZATION "{self.url.username}"'
            ) from None

    def server(self) -> str:
        """The server's version, for people; DatabaseError where it is not reached."""
        import sqlalchemy

        with self.connect() as connection:
            return str(connection.execute(sqlalchemy.text("SHOW server_version")).scalar_one())

    def _refused(self, told: str) -> str:
        """What the server or the driver said on one line, and what to look at."""
        said = printable(" ".join(told.split()))
        if self.url.password:
            said = said.replace(str(self.url.password), "***")
        if "password" in said:
            mend = f"look at the password in {DATABASE_VARIABLE}, PGPASSWORD or the file PGPASSFILE"
        elif "does not exist" in said:
            mend = "create the user and the database first (docs/operations.md)"
        else:
            mend = f"is the server running, and is the address in {DATABASE_VARIABLE} right?"
        return f"{DATABASE_VARIABLE}: no connection to PostgreSQL {self}: {said}; {mend}"


def database() -> Database | None:
    """The database of CT_PIPELINE_DATABASE; None where none is named.

    Raises DatabaseError where the value is no address of one, or a package that speaks to it is missing.
    """
    given = database_url()
    if not given:
        return None
    _require_driver()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    wrong = DatabaseError(
        f"{DATABASE_VARIABLE}: found something that is not the address of a PostgreSQL database (not shown: it may hold a "
        f"password); allowed: {FORM}, where / @ : # ? % in the password are written %2F %40 %3A %23 %3F %25"
    )
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise wrong from None
    # A password with an @ in it would otherwise be taken for a part of the host, and shown as such.
    if url.drivername not in ("postgresql", DRIVER) or not url.database or "@" in (url.host or ""):
        raise wrong
    return Database(url.set(drivername=DRIVER))


def _require_driver() -> None:
    try:
        import dagster_postgres  # noqa: F401
        import psycopg2  # noqa: F401
    except ImportError as error:
        raise DatabaseError(
            f"{DATABASE_VARIABLE} names a PostgreSQL database, and {error.name} is not installed: pip install "
            '"ct-pipeline[postgres]", or unset the variable for SQLite'
        ) from None


def _lock_key(name: str) -> int:
    """A signed 64-bit number, as advisory locks are named."""
    return int.from_bytes(hashlib.blake2b(f"ct_pipeline {name}".encode(), digest_size=8).digest(), signed=True)
