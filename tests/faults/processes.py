"""Worker processes for the fault tests: spawned, watched, killed, stopped; none is left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.faults.nursery import Forked, Nursery
from tests.services.native import Guard, free_ports, kill_tree

ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 0.05
_TAIL = 3_000
AnswerT = TypeVar("AnswerT")


class WorkerProcess:
    """A ``streamcore …`` command in a process of its own, a context manager.

    *words* are the command's arguments. ``http.port`` is set to a free port (:attr:`url`), and *environment*
    is added to this process's own (``STREAMCORE_CRASH_POINT=name[:n]`` makes it kill itself). Its output,
    standard error included, is appended to *log*. A *nursery* makes the start quick.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        nursery: Nursery | None = None,
    ) -> None:
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.was_stopped = False
        """It stood still for a while: a zombie, if others had time to take over."""
        self._begin = log.stat().st_size if log.exists() else 0
        given = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(cwd), str(ROOT)]),
            "PYTHONUNBUFFERED": "1",
            "STREAMCORE_HTTP__PORT": str(port),
            **(environment or {}),
        }
        self._popen: subprocess.Popen[bytes] | Forked
        self._guard: Guard | None = None
        if nursery is not None:
            self._popen = nursery.spawn(words, given, cwd, log)
            return
        with open(log, "ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "streamcore.cli", *words],
                cwd=cwd,
                env=given,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = Guard(self.pid)

    @property
    def pid(self) -> int:
        """The process's id, also after its end."""
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """What this process has written so far."""
        with open(self.log, "rb") as file:
            file.seek(self._begin)
            return file.read().decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if isinstance(self._popen, Forked):
            self._popen.kill()
            self._popen.wait()
        else:
            kill_tree(self._popen)

    def pause(self) -> None:
        """SIGSTOP: the process stands still and knows nothing of it."""
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.was_stopped = True
        self._popen.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: asks it to drain, commit and leave; :meth:`wait` for its end."""
        self._popen.terminate()

    def wait(self, seconds: float) -> int:
        """Wait for the end and give the exit code; AssertionError with the output when it does not end."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {seconds:.0f} s: {self.output()[-_TAIL:]}") from None

    def wait_for_line(self, pattern: str, seconds: float) -> re.Match[str]:
        """Wait until its output holds *pattern*; AssertionError when time is up or it ends without."""
        return self._until(lambda: re.search(pattern, self.output(), re.MULTILINE), repr(pattern), seconds)

    def wait_ready(self, seconds: float) -> None:
        """Wait until /readyz says yes; AssertionError when time is up or the process ends."""
        self._until(lambda: self._get("/readyz") or None, "ready", seconds)

    def metric(self, name: str, **labels: str) -> float | None:
        """The sum of the samples *name* of /metrics that have *labels*; None where there is none."""
        from prometheus_client.parser import text_string_to_metric_families

        values = [
            sample.value
            for family in text_string_to_metric_families(self._get("/metrics") or "")
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None

    def _get(self, path: str) -> str | None:
        with contextlib.suppress(OSError), urllib.request.urlopen(self.url + path, timeout=5) as response:
            text: str = response.read().decode()
            return text
        return None

    def _until(self, ask: Callable[[], AnswerT | None], what: str, seconds: float) -> AnswerT:
        deadline = time.monotonic() + seconds
        while True:
            ended = self.code is not None
            if (answer := ask()) is not None:
                return answer
            if ended or time.monotonic() > deadline:
                why = f"ended with {self.code}" if ended else f"{seconds:.0f} s are over"
                raise AssertionError(f"no {what}, {why}: {self.output()[-_TAIL:]}")
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Kill it if it still runs."""
        self.kill()
        if self._guard is not None:
            self._guard.release()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
