"""The commands and health checks of deploy/compose.yaml, run as processes of this machine instead of containers."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.postgres import PASSWORD, programs, running_server
from tests.e2e.runs import ROOT, Place
from tests.e2e.test_served import CELL, RUNS, Served, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(programs() is None, reason="no initdb: apt-get install postgresql"),
]
SERVICES = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
IMAGE = dict(re.findall(r"([A-Z_]+)=([\w/.]+)", (ROOT / "deploy" / "Dockerfile").read_text().split("ENV PATH=")[1]))
LONGEST = 300


class Machine:
    """Runs services of the compose file: same commands and variables, other host names, ports and folders."""

    def __init__(self, place: Place, folder: Path, database_port: int) -> None:
        self.place, self.folder = place, folder
        self.ports = {port: str(free_port()) for port in ("3000", "4000", "5000")}
        self.names = {
            "@postgres/": f"@127.0.0.1:{database_port}/",
            "/results": str(place.home),
            "0.0.0.0": "127.0.0.1",
            "code-server.yaml": str(folder / "code-server.yaml"),
            "host: code": "host: 127.0.0.1",
        } | self.ports
        where = self.here((ROOT / "deploy" / "code-server.yaml").read_text())
        (folder / "code-server.yaml").write_text(where)

    def here(self, text: str) -> str:
        """A text of the files with what differs on this machine."""
        return re.sub("|".join(map(re.escape, self.names)), lambda found: self.names[found[0]], text)

    def environment(self, service: str) -> dict[str, str]:
        given = {"POSTGRES_PASSWORD": PASSWORD, "CT_PIPELINE_STUDY": str(self.place.spec)}
        settings = IMAGE | SERVICES[service]["environment"]
        for name, value in settings.items():
            chosen = re.sub(r"\$\{(\w+):[-?]([^}]*)\}", lambda found: given.get(found[1], found[2]), value)
            settings[name] = chosen if name in ("PGPASSWORD", "CT_PIPELINE_STUDY") else self.here(chosen)
        return os.environ | settings

    def command(self, words: list[str]) -> list[str]:
        program, *rest = map(self.here, words)
        found = Path(sys.executable).with_name(program)
        # Not the installed ct-pipeline: the source that is tested.
        start = [sys.executable, "-m", "ct_pipeline.cli"] if program == "ct-pipeline" else [str(found)]
        return [*start, *rest]

    def start(self, service: str) -> subprocess.Popen:
        log = (self.folder / f"{service}.log").open("w")
        return subprocess.Popen(
            self.command(SERVICES[service]["command"]),
            cwd=ROOT,
            env=self.environment(service) | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def healthy(self, service: str) -> bool:
        check = self.command(SERVICES[service]["healthcheck"]["test"][1:])
        done = subprocess.run(check, cwd=ROOT, env=self.environment(service), capture_output=True, check=False)
        return done.returncode == 0

    @contextlib.contextmanager
    def running(self, service: str) -> Iterator[None]:
        """A service, healthy; its processes are ended afterwards."""
        process = self.start(service)
        try:
            deadline = time.monotonic() + LONGEST
            while not self.healthy(service):
                told = (self.folder / f"{service}.log").read_text()[-3000:]
                assert process.poll() is None and time.monotonic() < deadline, told
                time.sleep(1)
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(process.pid, number)
                    process.wait(timeout=20)


def test_the_services_start_in_their_order_and_materialize_a_cell(
    finished: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("composed")
    place = finished.copy(folder / "results")
    with running_server() as server, contextlib.ExitStack() as services:
        owner = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
        server.sql("postgres", f"CREATE ROLE {owner} LOGIN PASSWORD '{PASSWORD}'")
        server.sql("postgres", f"CREATE DATABASE {SERVICES['postgres']['environment']['POSTGRES_DB']} OWNER {owner}")
        machine = Machine(place, folder, server.port)
        assert machine.start("migrate").wait(timeout=LONGEST) == 0, (folder / "migrate.log").read_text()
        for service in ("code", "webserver", "daemon", "mlflow"):
            services.enter_context(machine.running(service))
        addresses = [f"http://127.0.0.1:{machine.ports[port]}" for port in ("3000", "5000")]
        served = Served(place, None, *addresses)
        served.backfill(assetSelection=[{"path": ["evaluation"]}], partitionNames=[CELL])
        assert [run["status"] for run in served.ask(RUNS)["runsOrError"]["results"]] == ["SUCCESS"]
        (count,) = server.sql("ct_pipeline", "SELECT count(*) FROM mlflow.runs WHERE status = 'FINISHED'")[0]
        assert count == 2, "the cell and its organism"
    assert not any(PASSWORD in log.read_text() for log in folder.glob("*.log"))
