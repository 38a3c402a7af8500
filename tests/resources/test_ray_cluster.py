"""Ray as executor: what a step asks for and takes along, and what is said where there is no cluster to ask."""

import http.server
import importlib.util
import json
import socket
import threading

import dagster as dg
import pytest

from ct_pipeline.resources import ray_cluster
from ct_pipeline.resources.ray_cluster import RAY_TAG, RayCluster, devices_of, step_executor, step_options
from ct_pipeline.settings.errors import UserError


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in ("CT_PIPELINE_EXECUTOR", "CT_PIPELINE_STEP_CORES", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def on_ray(monkeypatch):
    monkeypatch.setenv("CT_PIPELINE_EXECUTOR", "ray")


def test_without_ray_steps_run_in_the_process_of_their_run_and_ask_for_nothing():
    assert step_executor() is dg.in_process_executor
    assert step_options() == {}


def test_on_ray_a_step_asks_for_one_gpu_and_is_repeated_when_lost(on_ray):
    assert step_executor().name == "ray"
    assert step_options()["op_tags"] == {RAY_TAG: {"num_gpus": 1}}
    assert step_options()["retry_policy"].max_retries == ray_cluster.LOST_STEP_RETRIES > 0


def test_on_a_cluster_of_cores_a_step_asks_for_them(on_ray, monkeypatch):
    monkeypatch.setenv("CT_PIPELINE_STEP_CORES", "4")
    assert step_options()["op_tags"] == {RAY_TAG: {"num_cpus": 4}}


def test_a_step_takes_folders_study_and_settings_along_but_no_secret(on_ray, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CT_PIPELINE_HOME", "relative")
    monkeypatch.setenv("CT_PIPELINE_DATABASE", "postgresql://user:password@host/db")
    told = ray_cluster.step_variables()
    assert {f"CT_PIPELINE_FOLDER={tmp_path}", f"CT_PIPELINE_HOME={tmp_path / 'relative'}"} <= set(told)
    assert {"DAGSTER_HOME", "CT_PIPELINE_STUDY", "CT_PIPELINE_EXECUTOR", "RAY_USAGE_STATS_ENABLED"} <= set(told)
    assert not any(word in each for each in told for word in ("password", "DATABASE", "HF_TOKEN", "API_KEY"))


def test_without_the_extra_the_message_says_what_to_install(on_ray, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dagster_ray" else found(name))
    with pytest.raises(UserError, match=r'dagster_ray, which is not installed: pip install "ct-pipeline\[ray\]"'):
        step_executor()
    with pytest.raises(UserError, match="dagster_ray"):
        RayCluster()


def test_slots_are_the_gpus_or_what_fits_on_each_node():
    nodes = [{"CPU": 7.0, "GPU": 2.0}, {"CPU": 3.0}, {"GPU": 1.0}]
    assert devices_of(nodes, None) == 3
    assert devices_of(nodes, 3) == 3
    assert devices_of(nodes, 8) == 0


def test_an_address_that_takes_no_jobs_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(UserError, match=r"RAY_ADDRESS: found 'ray://head:10001'; allowed: .*http://127.0.0.1:8265"):
        RayCluster()


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address + "/")
        with pytest.raises(UserError, match=f"RAY_ADDRESS: no Ray cluster answers at {address} .*ray start --head"):
            RayCluster()


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Answers as a cluster's dashboard does: its version and its nodes."""

    nodes: tuple[dict, ...] = ()

    def do_GET(self):
        answers = {
            "/api/version": {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""},
            "/api/v0/nodes": {"result": True, "msg": "", "data": {"result": _listed(self.nodes)}},
        }
        body = json.dumps(answers[self.path.partition("?")[0]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words):
        """Quiet."""


def _listed(nodes):
    rows = [
        {
            **dict.fromkeys(("node_id", "node_ip", "state_message", "node_name"), ""),
            **{"is_head_node": False, "state": "ALIVE", "labels": {}, "resources_total": node},
        }
        for node in nodes
    ]
    total = len(rows)
    return {
        "result": rows,
        "total": total,
        "num_after_truncation": total,
        "num_filtered": total,
        "partial_failure_warning": "",
        "warnings": None,
    }


@pytest.fixture
def dashboard(monkeypatch):
    """A server in which a test puts nodes."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("OneDashboard", (Dashboard,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{server.server_address[1]}")
    yield server.RequestHandlerClass
    server.shutdown()
    server.server_close()


def test_a_cluster_has_as_many_devices_as_its_nodes(dashboard, monkeypatch):
    dashboard.nodes = ({"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0})
    assert RayCluster().devices == 3
    monkeypatch.setenv("CT_PIPELINE_STEP_CORES", "4")
    assert RayCluster().devices == 4


def test_a_cluster_without_a_fitting_device_is_refused(dashboard, monkeypatch):
    dashboard.nodes = ({"CPU": 8.0},)
    with pytest.raises(UserError, match=r"has not a GPU: .*CT_PIPELINE_STEP_CORES"):
        RayCluster()
    monkeypatch.setenv("CT_PIPELINE_STEP_CORES", "16")
    with pytest.raises(UserError, match="has not 16 cores on one node"):
        RayCluster()
