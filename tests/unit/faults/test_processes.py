"""A worker process is watched and ended as the fault tests need, and does not outlive a killed run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.processes import ROOT, WorkerProcess

# Stands for the command line: prints, serves health, waits.
FAKE = """
import asyncio, signal, sys
from streamcore.observability.health import Health
from streamcore.observability.http import serving
from streamcore.observability.metrics import Metrics
import os
async def main():
    metrics, stop = Metrics(), asyncio.Event()
    metrics.rows_in.labels("t", "a").inc(2)
    metrics.rows_in.labels("t", "b").inc(3)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    health = Health()
    health.add("started", lambda: None)
    async with serving(metrics, health, port=int(os.environ["STREAMCORE_HTTP__PORT"])):
        print("words", *sys.argv[1:], os.environ.get("EXTRA"))
        await stop.wait()
    print("drained")
    sys.exit(7)
asyncio.run(main())
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose ``streamcore.cli`` is the fake: the folder comes first on the path."""
    package = tmp_path / "streamcore" / "cli"
    package.mkdir(parents=True)
    (tmp_path / "streamcore" / "__init__.py").write_text(f"__path__.append({str(ROOT / 'streamcore')!r})\n")
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE)
    return tmp_path


def spawn(project: Path) -> WorkerProcess:
    return WorkerProcess(["worker", "x"], log=project / "log", environment={"EXTRA": "7"}, cwd=project)


def test_it_is_waited_for_asked_and_drained(project: Path) -> None:
    with spawn(project) as worker:
        assert worker.wait_for_line(r"^words (.*)$", 30)[1] == "worker x 7"
        worker.wait_ready(30)
        assert worker.metric("streamcore_rows_in_total", stream="b") == 3
        assert worker.metric("streamcore_rows_in_total") == 5
        assert worker.metric("streamcore_rows_out_total") is None
        worker.terminate()
        assert worker.wait(30) == 7
        assert worker.output().endswith("drained\n")


def test_it_is_stopped_continued_and_killed(project: Path) -> None:
    with spawn(project) as worker:
        worker.wait_ready(30)
        worker.pause()
        deadline = time.monotonic() + 10
        while psutil.Process(worker.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline
        worker.resume()
        worker.wait_ready(30)
        worker.kill()
        assert worker.code == -signal.SIGKILL


def test_a_line_that_does_not_come_is_an_error_with_the_output(project: Path) -> None:
    with spawn(project) as worker:
        worker.wait_ready(30)
        with pytest.raises(AssertionError, match=r"no 'never', 0 s are over: words worker x"):
            worker.wait_for_line("never", 0.2)
        worker.kill()
        with pytest.raises(AssertionError, match=r"ended with -9"):
            worker.wait_for_line("never", 30)
        assert worker.wait_for_line("words", 30)


def test_the_output_is_this_processes_own(project: Path) -> None:
    with spawn(project) as first:
        first.wait_for_line("words", 30)
    with spawn(project) as second:
        second.wait_for_line("words", 30)
        assert second.output().count("words") == 1


def test_it_ends_with_a_test_run_that_is_killed(project: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.faults.processes import WorkerProcess\n"
        f"w = WorkerProcess([], log=Path({str(project / 'log')!r}), cwd=Path({str(project)!r}))\n"
        "w.wait_ready(30); print(w.pid, flush=True); time.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    worker = psutil.Process(int(run.stdout.readline()))
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    # A zombie is over; who becomes its parent may never ask for its exit code.
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
