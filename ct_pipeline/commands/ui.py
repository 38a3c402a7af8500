"""`ct-pipeline ui`: the Dagster UI with its daemon, and the MLflow UI, both on this machine alone."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import dagster as dg
from rich.console import Console

from ct_pipeline.commands.dagster_home import prepare_dagster_home, project_file, share_devices
from ct_pipeline.interventions.files import read_study
from ct_pipeline.resources.ray_cluster import RayCluster
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.resources.tracking_store import artifact_root, tracking_uri
from ct_pipeline.settings.environment import executor, home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.store.artifact_store import ArtifactStore

HOST = "127.0.0.1"
START_SECONDS = 120


def serve(spec: Path, dagster_port: int, mlflow_port: int, console: Console) -> None:
    """Serves both until Ctrl-C or until one of them ends.

    UserError where a port is taken, the study cannot be read, results cannot be written, or a server does not start.
    """
    study = read_study(spec)
    if dagster_port == mlflow_port:
        raise UserError(f"--dagster-port and --mlflow-port are both {dagster_port}: give two different ports")
    for option, port in (("--dagster-port", dagster_port), ("--mlflow-port", mlflow_port)):
        require_free(option, port)
    devices = RayCluster().devices if executor() == "ray" else 1
    ArtifactStore(home() / "artifacts").prepare()
    folder = prepare_dagster_home()
    os.environ["CT_PIPELINE_STUDY"] = str(spec.absolute())
    os.environ["CT_PIPELINE_HOME"] = str(home())
    os.environ["CT_PIPELINE_DAGSTER_UI"] = f"http://{HOST}:{dagster_port}"
    os.environ["CT_PIPELINE_MLFLOW_UI"] = f"http://{HOST}:{mlflow_port}"
    # Opened once before the server does: two processes on a fresh database would break it.
    TrackingResource().open(study.name)
    # Not an argument: other users of the machine see those, and it may hold a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracking_uri()
    addresses = {
        "Dagster": f"http://{HOST}:{dagster_port}",
        "MLflow": f"http://{HOST}:{mlflow_port}",
    }
    with dg.DagsterInstance.get() as instance:
        share_devices(instance, devices)
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    commands = {"Dagster": _dagster(dagster_port), "MLflow": _mlflow(mlflow_port)}
    servers = {}
    for name, command in commands.items():
        log = (logs / f"{name.lower()}.log").open("w")
        servers[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    # Both end the servers, also where a shell started this in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        for name, address in addresses.items():
            _wait(name, servers[name], address, logs / f"{name.lower()}.log")
            console.print(f"{name}: {address}")
        console.print(f"Logs: {logs}\nCtrl-C ends both.", soft_wrap=True)
        while all(server.poll() is None for server in servers.values()):
            time.sleep(1)
        ended = next(name for name, server in servers.items() if server.poll() is not None)
        raise UserError(f"the {ended} server ended; its log is {logs / (ended.lower() + '.log')}")
    except KeyboardInterrupt:
        console.print("Stopping both servers.")
    finally:
        for server in servers.values():
            _end(server)


def _dagster(port: int) -> list[str]:
    return [
        sys.executable, "-m", "dagster", "dev", "-w", str(project_file("workspace.yaml")),
        "--host", HOST, "--port", str(port), "--log-level", "warning",
    ]  # fmt: skip


def _mlflow(port: int) -> list[str]:
    return [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
        "--serve-artifacts", "--artifacts-destination", artifact_root(),
    ]  # fmt: skip


def require_free(option: str, port: int) -> None:
    """UserError, which names the option, where a port of this machine is taken or not allowed."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise UserError(f"{option} {port}: this user may not use that port; give one from 1024 upwards") from error
        except OSError as error:
            raise UserError(
                f"{option} {port}: the port is in use; end what uses it or give another, e.g. {port + 1}"
            ) from error


def _wait(name: str, server: subprocess.Popen, address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise UserError(f"the {name} server did not start; its log is {log}:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.3)
    raise UserError(f"the {name} server did not answer at {address} within {START_SECONDS} s; its log is {log}")


def _end(server: subprocess.Popen) -> None:
    """Ends a server with all its children."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
