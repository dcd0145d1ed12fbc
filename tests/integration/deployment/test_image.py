"""The Dockerfile without an engine: its rules hold, and its build stage's commands run natively."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from streamcore.observability.health import Health
from streamcore.observability.http import serving
from streamcore.observability.metrics import Metrics

ROOT = Path(__file__).parents[3]


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, comments left out and continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(place for place, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def test_it_runs_as_a_user_without_rights_from_a_slim_image() -> None:
    stage = last_stage()
    assert "-slim" in stage[0][1]
    users = [arguments for word, arguments in stage if word == "USER"]
    assert users
    assert users[-1] not in ("0", "root")
    after = stage[stage.index(("USER", users[-1])) :]
    assert not [word for word, _ in after if word in ("RUN", "COPY")]
    assert ("ENTRYPOINT", '["streamcore"]') in stage


def test_everything_copied_exists_and_is_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    for word, arguments in instructions():
        if word == "COPY" and not arguments.startswith("--from"):
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in allowed


def test_no_secret_is_baked_in() -> None:
    for word, arguments in instructions():
        assert word != "ARG"
        assert not re.search(r"(?i)password|secret|token", arguments)


async def test_the_health_check_passes_and_fails_with_healthz() -> None:
    [check] = [arguments for word, arguments in last_stage() if word == "HEALTHCHECK"]
    command = json.loads(check[check.index("[") :])
    assert command[0] == "python"

    def run(port: int) -> int:
        environment = {**os.environ, "STREAMCORE_HTTP__PORT": str(port)}
        return subprocess.run(
            [sys.executable, *command[1:]], env=environment, stderr=subprocess.DEVNULL, check=False
        ).returncode

    now = [0.0]
    health = Health(clock=lambda: now[0])
    async with serving(Metrics(), health, port=0) as url:
        port = int(url.rpartition(":")[2])
        assert run(port) == 0
        now[0] = 3_600
        assert run(port) != 0
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert run(closed.getsockname()[1]) != 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_build_stage_installs_a_worker_and_nothing_else(tmp_path: Path) -> None:
    """FROM's Python is this one here, /opt/venv and /src are folders of the test."""
    source, venv = tmp_path / "src", tmp_path / "venv"
    source.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "VIRTUAL_ENV": str(venv)}
    environment |= {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))
    }
    stages = instructions()
    for word, arguments in stages[1 : stages.index(("FROM", "python:3.12-slim"))]:
        if word == "COPY":
            *names, _ = arguments.split()
            for name in names:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, source / name)
        elif word == "RUN":
            command = arguments.replace("/opt/venv", str(venv)).replace(
                "python -m venv", f"{sys.executable} -m venv"
            )
            done = subprocess.run(
                command, shell=True, cwd=source, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
    shown = subprocess.run(
        [venv / "bin" / "streamcore", "version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    installed = {
        path.name.partition("-")[0].lower() for path in venv.glob("lib/python*/site-packages/*.dist-info")
    }
    assert {"streamcore", "faust_streaming", "polars", "asyncpg"} <= installed
    assert not {"pytest", "mypy", "duckdb", "uv", "pip"} & installed
