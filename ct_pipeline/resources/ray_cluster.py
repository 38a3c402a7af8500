"""Ray: every step of a run is a job of the cluster, with a device of its own. Needs the extra `ray`."""

import importlib.util
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg

from ct_pipeline.settings.environment import SETTINGS, executor, home, ray_address, step_cores
from ct_pipeline.settings.errors import UserError

RAY_TAG = "dagster-ray/config"
RUN_ID = "dagster/run-id"
"""Under which dagster-ray notes the Dagster run in a Ray job."""
CARRIED = (
    *("DAGSTER_HOME", "CT_PIPELINE_EXECUTOR", "CT_PIPELINE_STUDY", "CT_PIPELINE_ONLY", "CT_PIPELINE_SEEDS"),
    *("CT_PIPELINE_AUDITS", "CT_PIPELINE_DAGSTER_UI", "CT_PIPELINE_MLFLOW_UI", "CT_PIPELINE_STEP_CORES"),
    "CT_PIPELINE_MLFLOW_ARTIFACTS",
)
"""Variables that a step takes over from the process that started it; secrets are not among them, Ray shows all of these."""
LOST_STEP_RETRIES = 3
TIMEOUT_SECONDS = 15
STOP_SECONDS = 60


def step_executor() -> dg.ExecutorDefinition:
    """What runs the steps: this process, whose workers stay warm from step to step, or Ray by CT_PIPELINE_EXECUTOR.

    UserError where the extra is missing; the cluster is not asked for anything yet.
    """
    if executor() == "in_process":
        return dg.in_process_executor
    _require_extra()
    from dagster_ray import ray_executor

    return ray_executor.configured({"ray": {"address": ray_address(), "env_vars": step_variables()}})


def step_variables() -> list[str]:
    """The environment of a step, as `NAME` (taken from this process, where it is set) or `NAME=value`."""
    here = {
        "CT_PIPELINE_FOLDER": os.getcwd(),
        "CT_PIPELINE_HOME": str(home()),
        # The same programs and the same code as here, whatever else is installed.
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")))),
    }
    return [*CARRIED, *SETTINGS, *(f"{name}={value}" for name, value in here.items())]


def step_options() -> dict[str, Any]:
    """What an asset's step that computes asks of Ray: one GPU or CT_PIPELINE_STEP_CORES, and to be repeated when lost.

    Empty without Ray: there a lost process ends the run, and what is missing is made by the next one.
    """
    if executor() == "in_process":
        return {}
    cores = step_cores()
    return {
        "op_tags": {RAY_TAG: {"num_cpus": cores} if cores else {"num_gpus": 1}},
        "retry_policy": dg.RetryPolicy(max_retries=LOST_STEP_RETRIES),
    }


class RayCluster:
    """A running cluster.

    Attributes:
        address: of its dashboard.
        devices: how many steps can compute at once: its GPUs, or its nodes' cores by CT_PIPELINE_STEP_CORES.
    """

    def __init__(self) -> None:
        _require_extra()
        self.address = ray_address()
        _require_answer(self.address)
        from ray.job_submission import JobSubmissionClient
        from ray.util.state import list_nodes

        try:
            self._client = JobSubmissionClient(self.address)
            nodes = list_nodes(address=self.address, filters=[("state", "=", "ALIVE")], limit=10_000)
        except (RuntimeError, ConnectionError) as error:
            raise UserError(f"the Ray cluster at {self.address} refuses: {error}") from error
        self.devices = devices_of([node.resources_total for node in nodes], step_cores())
        if not self.devices:
            wanted = f"{step_cores()} cores on one node" if step_cores() else "a GPU"
            raise UserError(
                f"the Ray cluster at {self.address} has not {wanted}: start its nodes with --num-gpus, or set "
                "CT_PIPELINE_STEP_CORES to the cores that a step is to have"
            )

    def stop(self, runs: Iterable[str]) -> None:
        """Ends the jobs of Dagster runs that nobody follows any more, and waits for their end."""
        ids = set(runs)
        if not ids:
            return
        left = [
            job.submission_id
            for job in self._client.list_jobs()
            if job.submission_id and (job.metadata or {}).get(RUN_ID) in ids and not job.status.is_terminal()
        ]
        for job in left:
            self._client.stop_job(job)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            left = [job for job in left if not self._client.get_job_status(job).is_terminal()]
            if not left:
                return
            time.sleep(0.5)
        raise UserError(f"Ray did not end {', '.join(left)} within {STOP_SECONDS} s: end them by `ray job stop`")


def devices_of(nodes: Iterable[dict[str, float]], cores: int | None) -> int:
    """How many steps fit on nodes at once, each with a GPU, or with so many cores of one node."""
    return sum(int(node.get("CPU", 0) // cores) if cores else int(node.get("GPU", 0)) for node in nodes)


def _require_extra() -> None:
    missing = [name for name in ("dagster_ray", "ray") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"CT_PIPELINE_EXECUTOR: ray needs {' and '.join(missing)}, which is not installed: pip install "
            '"ct-pipeline[ray]", or use in_process'
        )


def _require_answer(address: str) -> None:
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"RAY_ADDRESS: found {address!r}; allowed: the address of the cluster's dashboard, such as http://127.0.0.1:8265"
        )
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError:
        # Somebody answers; what they have against it is said by Ray's own client.
        return
    except OSError as error:
        raise UserError(
            f"RAY_ADDRESS: no Ray cluster answers at {address} ({error}): start one (ray start --head; "
            "docs/many-gpus.md says how to keep it to this machine), or name another"
        ) from error
