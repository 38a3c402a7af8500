"""What deploy/ says, read without Docker: services, variables, ports, files and programs exist and fit together."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from ct_pipeline.resources.database import DRIVER, MLFLOW_SCHEMA
from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?])?")


def one_shot(service: dict) -> bool:
    return service["restart"] == "no"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_watched_or_ends(name):
    service = SERVICES[name]
    assert service["image"]
    assert one_shot(service) or service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_it_needs(name):
    waited = SERVICES[name].get("depends_on", {})
    for other, how in waited.items():
        assert how["condition"] == (
            "service_completed_successfully" if one_shot(SERVICES[other]) else "service_healthy"
        ), other
    assert waited or name == "postgres"


def test_nothing_is_published_beyond_this_machine():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"webserver": ["127.0.0.1:3000:3000"], "mlflow": ["127.0.0.1:5000:5000"]}
    assert not any("network_mode" in service or "privileged" in service for service in SERVICES.values())


def test_volumes_are_declared_and_folders_exist():
    mounts = {mount.split(":")[0] for service in SERVICES.values() for mount in service["volumes"]}
    named = {mount for mount in mounts if not mount.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    assert [mount for mount in mounts - named if not (DEPLOY / mount).is_dir()] == []


def test_every_variable_has_a_default_or_is_asked_for_and_is_in_the_example():
    text = (DEPLOY / "compose.yaml").read_text()
    example = re.findall(r"^(?:# )?([A-Z_]+)=", (DEPLOY / ".env.example").read_text(), flags=re.MULTILINE)
    used = VARIABLE.findall(text)
    assert {name for name, _ in used} == set(example)
    assert {name for name, how in used if how == ":?"} == {"POSTGRES_PASSWORD"}
    assert all(how in (":-", ":?") for _, how in used)


def test_no_password_is_in_the_files_and_the_filled_in_one_is_ignored_by_git():
    assert "POSTGRES_PASSWORD=\n" in (DEPLOY / ".env.example").read_text()
    assert "/deploy/.env\n" in (REPOSITORY / ".gitignore").read_text()
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or value.startswith("${POSTGRES_PASSWORD:?")


def test_dagster_and_mlflow_are_told_of_one_database_as_the_program_would():
    server = SERVICES["postgres"]["environment"]
    address = f"{DRIVER}://{server['POSTGRES_USER']}@postgres/{server['POSTGRES_DB']}"
    for name in ("migrate", "code", "webserver", "daemon", "mlflow"):
        assert SERVICES[name]["environment"]["CT_PIPELINE_DATABASE"] == address
    store = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert store == f"{address}?options=-csearch_path%3D{MLFLOW_SCHEMA}"


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "postgres"])
def test_a_service_of_the_project_runs_its_image_with_no_rights(name):
    service = SERVICES[name]
    programs = {point.name for point in entry_points(group="console_scripts")}
    checked = [service["healthcheck"]["test"][1]] if "healthcheck" in service else []
    assert {service["command"][0], *checked} <= programs | {"python"}
    assert service["image"] == "ct-pipeline:${TAG:-cpu}"
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert set(service["build"]["args"]) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, flags=re.MULTILINE))


def test_the_webserver_and_the_daemon_find_the_code_location():
    (place,) = yaml.safe_load((DEPLOY / "code-server.yaml").read_text())["load_from"]
    assert place["grpc_server"]["host"] in SERVICES
    command = SERVICES["code"]["command"]
    assert command[command.index("-p") + 1] == str(place["grpc_server"]["port"])
    for name in ("webserver", "daemon"):
        assert SERVICES[name]["command"][-2:] == ["-w", "code-server.yaml"]


def test_the_gpus_go_to_the_service_that_computes():
    (service,) = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"].items()
    assert service[0] == "code"
    assert service[1]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_the_image_copies_what_is_there_and_what_docker_is_shown():
    shown = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), flags=re.MULTILINE)
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE)
        for name in line.split()[:-1]
    ]
    assert copied and sorted(copied) == sorted(shown)
    assert [name for name in copied if not (REPOSITORY / name).exists()] == []


def test_the_image_has_the_projects_versions_and_no_root():
    (torch,) = {name for name in PROJECT["dependencies"] if name.startswith("torch")}
    assert set(re.findall(r"torch==[\d.]+", DOCKERFILE)) == {torch}
    (extras,) = re.findall(r"^ARG EXTRAS=(.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert re.findall(r"^USER (\d+)$", DOCKERFILE, flags=re.MULTILINE) == ["10001"]
    assert set(re.findall(r"^FROM python:(\d\.\d+)", DOCKERFILE, flags=re.MULTILINE)) == {"3.11"}


def test_the_settings_that_the_files_name_are_read_by_the_code():
    named = {
        name
        for path in (*DEPLOY.rglob("*.yaml"), DEPLOY / "Dockerfile")
        for name in re.findall(r"CT_PIPELINE_\w+", Path(path).read_text())
    }
    code = "".join(path.read_text() for path in (REPOSITORY / "ct_pipeline").rglob("*.py"))
    assert [name for name in sorted(named) if f'"{name}"' not in code] == []
