"""How servers are found: an engine must answer, installing needs root, and one process installs at a time."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.services import containers, install
from tests.services import kafka as kafka_service
from tests.services import postgres as postgres_service
from tests.services.server import Unavailable

ROOT = Path(__file__).parents[3]
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"


@contextmanager
def engine(path: Path, reply: bytes | None) -> Iterator[None]:
    """A socket that answers each request with *reply*, or never."""
    done = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4_096)
            if reply is None:
                done.wait(10)
            else:
                self.request.sendall(reply)

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            done.set()
            server.shutdown()


@pytest.mark.parametrize(("reply", "answers"), [(REPLY, True), (None, False), (b"no http\r\n\r\n", False)])
def test_an_engine_is_one_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: bytes | None, answers: bool
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setattr(containers, "_ENGINE_SECONDS", 0.5)
    with engine(tmp_path / "docker.sock", reply):
        assert containers.engine_answers.__wrapped__() is answers


@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://10.0.0.1:2375"])
def test_a_missing_or_remote_engine_is_none(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    assert containers.engine_answers.__wrapped__() is False


def test_without_root_an_install_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    with pytest.raises(
        Unavailable, match=r"no-such-server is missing; run: sudo apt-get install some-package"
    ):
        install.apt_install("no-such-server", "some-package")


def test_a_failed_command_gives_its_last_lines() -> None:
    with pytest.raises(Unavailable, match="ended with 3: noise\nthe reason"):
        install.run("sh", "-c", "echo noise; echo the reason; exit 3")


def test_installs_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = "from tests.services.install import install_lock\nwith install_lock('x'): print('inside')"
    with install.install_lock("x"):
        other = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(2)
    assert other.communicate(timeout=30)[0] == "inside\n"


def test_addresses_in_the_environment_win_and_are_not_ours_to_stop() -> None:
    kafka = kafka_service.from_environment(
        {"TEST_KAFKA": "h:1", "TEST_KAFKA_SASL": "SCRAM-SHA-256:bob:a:b", "TEST_KAFKA_SSL": "h:2"}
    )
    postgres = postgres_service.from_environment({"TEST_POSTGRES": "postgresql://u:p@h:5/d"})
    assert kafka is not None
    assert postgres is not None
    assert (kafka.url, kafka.user, kafka.password, kafka.ssl, kafka.sasl_ssl) == (
        "kafka://h:1", "bob", "a:b", "h:2", None
    )  # fmt: skip
    assert postgres.dsn == "postgresql://u:p@h:5/d"
    for server in (kafka, postgres):
        with pytest.raises(Unavailable, match=f"the server of {server.variable} is not ours"):
            server.kill()
        server.close()
    assert kafka_service.from_environment({}) is None
    assert postgres_service.from_environment({"TEST_POSTGRES": ""}) is None
