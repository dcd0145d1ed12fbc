"""Workers by fork from a process that has imported everything: a start takes 50 ms instead of seconds.

A fault run starts a worker five times and more; with imports of two CPU seconds each, runs would prove
little per hour. A child runs the command line exactly as ``python -m streamcore.cli WORDS`` does: its own
session, environment, folder and output. It dies with the nursery, and the nursery with the one who made it.

``python -m tests.faults.nursery`` is the process: requests are JSON lines on standard input, answers on
standard output; :class:`Nursery` is its client.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02


class Nursery:
    """Starts workers. A context manager; all its workers die with it."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )

    def spawn(self, words: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path) -> Forked:
        """Run ``streamcore WORDS`` with exactly *environment*; its output is appended to *log*."""
        request = {"words": list(words), "environment": dict(environment), "cwd": str(cwd), "log": str(log)}
        return Forked(self, self.ask(request))  # type: ignore[arg-type]

    def ask(self, request: Mapping[str, object]) -> int | None:
        """Send a request and read the answer; RuntimeError when the nursery is dead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one_at_a_time:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the nursery ended with {self._process.wait()}")
        number: int | None = json.loads(answer)
        return number

    def close(self) -> None:
        """End the nursery and with it all that still runs."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Forked:
    """A worker of a nursery, with the part of subprocess.Popen's interface that the fault tests use."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid = nursery, pid
        self._polling = threading.Lock()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        with self._polling:  # the code of a process can be asked for once only
            if self.returncode is None:
                self.returncode = self._nursery.ask({"poll": self.pid})
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it if it still runs: only the nursery's poll frees its id for others."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; subprocess.TimeoutExpired after *timeout* seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("streamcore", timeout or 0)
            time.sleep(_POLL_SECONDS)
        return code


def _serve() -> None:
    """Answer requests until the input ends; in a child it runs the worker and does not return."""
    _import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif not (answer := os.fork()):
            _become_worker(**request)
        print(json.dumps(answer), flush=True)


def _import_everything() -> None:
    for name in (
        "asyncpg",
        "batch_adapters.catalogue",
        "streamcore.cli.app",
        "streamcore.runtime.replay",
        "streamcore.runtime.worker",
        "streamcore.sinks",
        "streamcore.transport.embedded",
        "streamcore.transport.kafka",
        "streamcore.transport.kafka_log",
        "tests.faults.planted",
    ):
        importlib.import_module(name)


def _become_worker(words: list[str], environment: dict[str, str], cwd: str, log: str) -> NoReturn:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    from streamcore import crashpoints
    from streamcore.cli import main
    from tests.faults import planted

    importlib.reload(crashpoints)  # the functions that others have imported see the new values
    planted.plant(environment.get(planted.VARIABLE, ""))
    sys.argv = ["streamcore", *words]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    if sys.version_info < (3, 11):  # there, the end of a forked interpreter waits for its parent's threads
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    _serve()
