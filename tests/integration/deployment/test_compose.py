"""docker-compose.yml without an engine: its parts fit together, its commands and settings are real ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.services import kafka as kafka_service
from tests.services.containers import engine_answers
from tests.services.install import run
from tests.services.server import Unavailable

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, object]] = COMPOSE["services"]


def test_what_one_service_needs_of_another_is_there() -> None:
    for service in SERVICES.values():
        for name, need in service.get("depends_on", {}).items():
            if need["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert "restart" not in SERVICES[name]


def test_long_running_services_have_a_health_check() -> None:
    once = {"topics"}
    for name in SERVICES.keys() - once:
        assert "healthcheck" in SERVICES[name] or SERVICES[name].get("build") == "."


def test_mounts_exist_and_images_have_versions() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"]
        if "image" in service:
            assert re.search(r":v?\d+", service["image"])


def test_the_broker_is_the_one_that_the_tests_use() -> None:
    assert SERVICES["kafka"]["image"] == SERVICES["topics"]["image"] == kafka_service.IMAGE


def test_ports_are_open_to_this_machine_only_and_passwords_come_from_outside() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or ("@" in str(value) and "://" in str(value)):
                assert "${POSTGRES_PASSWORD" in value


@pytest.mark.parametrize("service", ["worker", "pipelines"])
def test_the_workers_command_is_one_that_the_command_line_takes(service: str) -> None:
    command = SERVICES[service]["command"]
    assert isinstance(command, list)
    asked = [[*command, "--help"]]
    if service == "worker":
        asked.append(["topologies", "show", command[1]])
    for words in asked:
        done = subprocess.run(
            [sys.executable, "-m", "streamcore.cli", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_scrapes_the_worker_where_it_serves() -> None:
    config = yaml.safe_load((ROOT / "config/prometheus/prometheus.yml").read_text())
    [target] = config["scrape_configs"][0]["dns_sd_configs"]
    assert set(target["names"]) <= SERVICES.keys()
    assert f"STREAMCORE_HTTP__PORT={target['port']}" in (ROOT / "Dockerfile").read_text()


def test_kafka_takes_the_brokers_settings(tmp_path: Path) -> None:
    """The image makes a.b.c=x of KAFKA_A_B_C=x; the storage tool reads and checks all of them."""
    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in SERVICES["kafka"]["environment"].items()
    }
    settings["log.dirs"] = str(tmp_path / "data")
    file = tmp_path / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    try:
        classes = f"{kafka_service.install()}/*"
    except Unavailable as error:
        pytest.skip(str(error))
    shown = run("java", "-cp", classes, "kafka.tools.StorageTool", "format", "-t", "x" * 22, "-c", file)
    assert "Formatting" in shown


def test_docker_agrees_where_there_is_an_engine() -> None:
    if not engine_answers():
        pytest.skip("no Docker engine answers")
    done = subprocess.run(
        ["docker", "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
