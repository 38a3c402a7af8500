"""The manifests of deploy/kubernetes: one database, one volume, no rights; the tags of the docs page are Dagster's."""

import json
import re

import pytest
import yaml

from ct_pipeline.resources.database import DRIVER, MLFLOW_SCHEMA
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "kubernetes"
MANIFESTS = {
    (each["kind"], each["metadata"]["name"]): each
    for name in ("ct-pipeline.yaml", "study-job.yaml")
    for each in yaml.safe_load_all((FOLDER / name).read_text())
}
PODS = {
    name: each["spec"]["template"]["spec"]
    for (_, name), each in MANIFESTS.items()
    if "template" in each.get("spec", {})
}
VALUES = yaml.safe_load((FOLDER / "values.yaml").read_text())
CODE = VALUES["dagster-user-deployments"]["deployments"][0]
PAGE = (REPOSITORY / "docs" / "kubernetes.md").read_text()
TAG_KEYS = {
    "container_config", "pod_template_spec_metadata", "pod_spec_config", "job_config", "job_metadata", "job_spec_config",
    "merge_behavior",
}  # fmt: skip
"""What dagster-k8s 0.29.27 accepts in the tag dagster-k8s/config (dagster_k8s/job.py)."""


def password_of(environment: list[dict]) -> dict:
    (found,) = (each["valueFrom"]["secretKeyRef"] for each in environment if each["name"] == "PGPASSWORD")
    return found


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_the_volume_the_settings_the_password_and_no_rights(name):
    pod = PODS[name]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"name": "results", "mountPath": "/results"} in container["volumeMounts"]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if volume["name"] == "results"]
    assert ("PersistentVolumeClaim", *claims) in MANIFESTS
    (source,) = container["envFrom"]
    assert ("ConfigMap", source["configMapRef"]["name"]) in MANIFESTS
    assert password_of(container["env"])["name"] == VALUES["global"]["postgresqlSecretName"]


def test_dagster_and_mlflow_use_one_database():
    server = VALUES["postgresql"]
    assert server["postgresqlScheme"] == DRIVER
    address = f"{DRIVER}://{server['postgresqlUsername']}@{server['postgresqlHost']}/{server['postgresqlDatabase']}"
    assert MANIFESTS["ConfigMap", "ct-pipeline"]["data"]["CT_PIPELINE_DATABASE"] == address
    (mlflow,) = PODS["ct-pipeline-mlflow"]["containers"]
    (store,) = (each["value"] for each in mlflow["env"] if each["name"] == "MLFLOW_BACKEND_STORE_URI")
    assert store == f"{address}?options=-csearch_path%3D{MLFLOW_SCHEMA}"


def test_runs_get_what_the_code_location_has():
    assert CODE["includeConfigInLaunchedRuns"] == {"enabled": True}
    assert CODE["dagsterApiGrpcArgs"] == ["--module-name", "ct_pipeline.definitions"]
    assert [("ConfigMap", each["name"]) for each in CODE["envConfigMaps"]] == [("ConfigMap", "ct-pipeline")]
    assert password_of(CODE["env"])["name"] == VALUES["global"]["postgresqlSecretName"]
    assert CODE["volumes"] == PODS["ct-pipeline-migrate"]["volumes"]
    assert CODE["volumeMounts"] == PODS["ct-pipeline-migrate"]["containers"][0]["volumeMounts"]


def test_one_image_is_used_everywhere_and_nothing_is_open_to_the_world():
    image = "{repository}:{tag}".format_map(CODE["image"])
    assert {container["image"] for pod in PODS.values() for container in pod["containers"]} == {image}
    assert VALUES["dagsterWebserver"]["image"] == VALUES["dagsterDaemon"]["image"] == CODE["image"]
    kinds = [VALUES["dagsterWebserver"]["service"]["type"], MANIFESTS["Service", "ct-pipeline-mlflow"]["spec"]["type"]]
    assert kinds == ["ClusterIP", "ClusterIP"]


def test_the_chart_is_told_what_dagster_yaml_says():
    own = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    pools, runs = VALUES["concurrency"]["pools"], VALUES["concurrency"]["runs"]
    assert pools == {
        "defaultLimit": own["concurrency"]["pools"]["default_limit"],
        "granularity": own["concurrency"]["pools"]["granularity"],
    }
    assert runs["maxConcurrentRuns"] == own["concurrency"]["runs"]["max_concurrent_runs"]
    assert VALUES["dagsterDaemon"]["runMonitoring"]["enabled"] is own["run_monitoring"]["enabled"]
    assert VALUES["dagsterDaemon"]["runRetries"]["maxRetries"] == own["run_retries"]["max_retries"]
    assert VALUES["telemetry"] == own["telemetry"]


def test_the_tags_of_the_page_are_those_that_dagster_reads():
    tags = [json.loads(block) for block in re.findall(r"```json\n(.+?)```", PAGE, flags=re.DOTALL)]
    assert tags
    for tag in tags:
        assert set(tag) <= TAG_KEYS
    assert "`dagster-k8s/config`" in PAGE


def test_every_file_of_the_folder_is_explained():
    assert [path.name for path in FOLDER.iterdir() if path.name not in PAGE] == []
