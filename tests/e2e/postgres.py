"""A PostgreSQL server of the distribution's packages, started for tests on a free port of this machine."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.e2e.test_served import free_port

USER = "auditor"
PASSWORD = "p@ss/w%rd: geheim"
"""Everything in it must be escaped in an address."""


def programs() -> Path | None:
    """The folder of initdb and pg_ctl: on the PATH, or where Debian puts them; the newest version."""
    found = shutil.which("initdb")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return Path(found).parent if found else places[-1].parent if places else None


@dataclass(frozen=True)
class Server:
    """A running server."""

    folder: Path
    port: int

    def url(self, name: str, password: str = PASSWORD) -> str:
        """Address of a database, as a person would write it."""
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{name}"

    def create(self, name: str) -> str:
        """A new, empty database; returns its address."""
        self.sql("postgres", f'CREATE DATABASE "{name}"')
        return self.url(name)

    def sql(self, name: str, statement: str) -> list[tuple]:
        """Rows of a statement."""
        import psycopg2

        with contextlib.closing(psycopg2.connect(self.url(name))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def control(self, *arguments: str) -> None:
        """Runs pg_ctl; the server refuses to run as root."""
        _run(programs() / "pg_ctl", "-D", self.folder / "data", "-w", "-s", *arguments)

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off"
        self.control("-o", options, "-l", self.folder / "log", "start")


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """A server with the user USER, whose password is asked for; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="ct-pipeline-postgres-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
            shutil.chown(folder / "password", "nobody")
        _run(
            *(programs() / "initdb", "-D", folder / "data", "-U", USER, "--auth=scram-sha-256", "--no-sync"),
            *("--pwfile", folder / "password", "--encoding=UTF8", "--locale=C"),
        )
        server = Server(folder, free_port())
        server.start()
        try:
            yield server
        finally:
            server.control("-m", "immediate", "stop")


def _run(*command: object) -> None:
    as_nobody = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        as_nobody = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    # Not captured: the server would keep the pipe open, and it would be waited for.
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, cwd="/", **as_nobody)
