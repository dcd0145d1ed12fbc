"""``streamcore pipeline …`` from the first check to a re-run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from streamcore.cli.app import run
from tests.services.native import free_ports

FILE = """\
pipeline_id: hello
parameters: {word: hi}
tasks:
  - {task_id: say, task_type: command, parameters: {command: [echo, "${param:word}"]}}
  - {task_id: look, task_type: command, depends_on: [say], parameters: {command: [cat, there]}}
  - {task_id: end, task_type: empty, depends_on: [look]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config" / "pipelines").mkdir(parents=True)
    (tmp_path / "config" / "pipelines" / "hello.yaml").write_text(FILE)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """The document that a command prints."""
    capsys.readouterr()
    assert run(["pipeline", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_metrics_of_all_pipelines_are_printed_and_served(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "run", "hello", code=1)
    assert run(["pipeline", "metrics", "--once"]) == 0
    line = 'streamcore_pipeline_runs{pipeline="hello",status="failed"} 1.0'
    assert line in capsys.readouterr().out.splitlines()
    serving = subprocess.Popen(
        [sys.executable, "-m", "streamcore.cli", "pipeline", "metrics", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stderr is not None
        address = serving.stderr.readline().split()[-1]
        with urlopen(address, timeout=60) as answer:
            assert line in answer.read().decode().splitlines()
        serving.terminate()
        assert serving.wait(60) == 0
    finally:
        serving.kill()


def test_a_pipeline_from_its_file_to_a_re_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "validate") == {"files": [{"file": "config/pipelines/hello.yaml", "errors": []}]}
    assert said(capsys, "register") == {"pipelines": [{"pipeline_id": "hello", "version": 1}]}
    failed = said(capsys, "run", "hello", "--param", "word=there", code=1)
    assert (failed["status"], failed["reason"], failed["parameters"]) == (
        "failed", "failed: look", {"word": "there"},
    )  # fmt: skip
    assert [task["status"] for task in failed["tasks"]] == ["success", "failed", "skipped"]
    run_id = failed["run_id"]

    (folder / "there").write_text("now it is\n")
    assert said(capsys, "rerun", run_id[:8])["status"] == "success"
    assert said(capsys, "status")["tasks"][1]["attempts"] == 2
    found = said(capsys, "logs", "last")["attempts"]
    assert [(a["task_id"], a["status"]) for a in found] == [
        ("say", "success"), ("look", "failed"), ("look", "success"),
    ]  # fmt: skip
    assert [a["log"] for a in found][::2] == ["there\n", "now it is\n"]
    assert [a["attempt"] for a in said(capsys, "logs", run_id, "look")["attempts"]] == [1, 2]

    (listed,) = said(capsys, "list")["pipelines"]
    assert (listed["pipeline_id"], listed["tasks"], listed["last_run"]) == ("hello", 3, "success")
    assert [one["run_id"] for one in said(capsys, "history", "hello")["runs"]] == [run_id]
    assert said(capsys, "history", "--status", "failed")["runs"] == []
    assert said(capsys, "cancel", run_id) == {"run_id": run_id, "cancelled": False, "status": "success"}


def test_tables_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "there").touch()
    assert run(["pipeline", "run", "hello"]) == 0
    shown = capsys.readouterr()
    assert "hello success in" in shown.out
    assert "look" in shown.out
    for command in (["status"], ["list"], ["history"], ["logs", "last"], ["graph", "hello"]):
        assert run(["pipeline", *command]) == 0
        assert "hello" in capsys.readouterr().out or command[0] == "logs"
    assert run(["pipeline", "graph", "config/pipelines/hello.yaml", "--mermaid"]) == 0
    assert "  t0 --> t1\n" in capsys.readouterr().out


def test_what_is_wrong_is_told_with_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config" / "pipelines" / "bad.yaml").write_text(FILE.replace("[say]", "[sya]"))
    assert run(["pipeline", "validate"]) == 2
    out = capsys.readouterr().out
    assert "config/pipelines/bad.yaml: 1 wrong" in out
    assert "bad.yaml:5:54: there is no task 'sya', allowed: say, end; did you mean 'say'?" in out
    assert "config/pipelines/hello.yaml: ok" in out
    assert run(["pipeline", "run", "config/pipelines/bad.yaml"]) == 2
    assert not (folder / ".streamcore").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "helo"], "there is no pipeline 'helo'"),
        (["run", "hello", "--param", "wrod=x"], "did you mean 'word'"),
        (["run", "none.yaml"], "can't be read"),
        (["status", "abc"], "there is no such run"),
        (["history", "--status", "broken"], "no run has this status"),
        (["graph", "none"], "there is no pipeline 'none'"),
    ],
)
def test_errors_say_what_to_do(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pipeline", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_the_schema_knows_each_kinds_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pipeline", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert "command" in schema["$defs"]["command_parameters"]["properties"]
    assert schema["$defs"]["TaskConfig"]["properties"]["retry_count"]["anyOf"][0]["type"] == "integer"


def test_ctrl_c_cancels_a_run_and_a_worker_does_what_is_queued(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = FILE.replace("[cat, there]", "[sh, -c, 'test -f there || sleep 60']")
    (folder / "config" / "pipelines" / "hello.yaml").write_text(slow)
    running = subprocess.Popen([sys.executable, "-m", "streamcore.cli", "pipeline", "run", "hello"])
    _until(lambda: _status(capsys, "look") == "running")
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130
    assert said(capsys, "status")["status"] == "cancelled"

    (folder / "there").touch()
    queued = said(capsys, "run", "hello", "--queue")
    assert queued["status"] == "queued"
    (port,) = free_ports(1)
    words = [sys.executable, "-m", "streamcore.cli", "pipeline", "worker", "--port", str(port)]
    worker = subprocess.Popen(words)
    try:
        _until(lambda: said(capsys, "status", queued["run_id"])["status"] == "success")
        shown = asked(f"http://127.0.0.1:{port}/metrics")
        for what in (
            'streamcore_pipeline_runs{pipeline="hello",status="success"} 1.0',
            "\nprocess_cpu_seconds_total ",
        ):
            assert shown.count(what) == 1
        assert asked(f"http://127.0.0.1:{port}/healthz") == "ok\n"
    finally:
        worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


def asked(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def _status(capsys: pytest.CaptureFixture[str], task_id: str) -> str | None:
    capsys.readouterr()
    if not os.path.exists(".streamcore/metadata.db") or run(["pipeline", "status", "--json"]) != 0:
        return None
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    return next(str(task["status"]) for task in tasks if task["task_id"] == task_id)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
