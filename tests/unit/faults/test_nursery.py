"""A worker of the nursery is a process like any other, and dies with who made it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.nursery import Forked, Nursery
from tests.faults.processes import ROOT


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def spawn(nursery: Nursery, folder: Path, *words: str, **more: str) -> Forked:
    return nursery.spawn(words, {**os.environ, **more}, ROOT, folder / "log")


def replay(nursery: Nursery, folder: Path, rows: int, **more: str) -> Forked:
    (folder / "rows.ndjson").write_text("".join(f'{{"id": {n}}}\n' for n in range(rows)))
    (folder / "t.py").write_text(
        "import streamcore as sc\ntopology = sc.Topology('t')\n"
        "topology.stream('s', {'id': 'int64'}).to(sc.sinks.JsonLines('" + str(folder / "out") + "'))\n"
    )
    where = ("--state-dir", str(folder / "state"))
    return spawn(
        nursery, folder, "replay", str(folder / "t.py"), "--from", f"s={folder}/rows.ndjson", *where, **more
    )


def test_it_runs_the_command_line_with_its_own_output_and_exit_code(nursery: Nursery, tmp_path: Path) -> None:
    assert spawn(nursery, tmp_path, "version").wait(60) == 0
    assert "streamcore" in (tmp_path / "log").read_text()
    assert spawn(nursery, tmp_path, "no-such-command").wait(60) == 2


def test_a_fork_works_and_reads_the_crash_point_of_its_own_environment(
    nursery: Nursery, tmp_path: Path
) -> None:
    dead = replay(nursery, tmp_path, 50, STREAMCORE_CRASH_POINT="files.before_seal")
    assert dead.wait(60) == -signal.SIGKILL
    assert replay(nursery, tmp_path, 50).wait(60) == 0
    [file] = (tmp_path / "out").glob("*.jsonl")
    assert len(file.read_text().splitlines()) == 50


def test_a_stop_point_stops_until_it_goes_on(nursery: Nursery, tmp_path: Path) -> None:
    worker = replay(nursery, tmp_path, 5, STREAMCORE_CRASH_POINT="files.before_seal:1:SIGSTOP")
    while psutil.Process(worker.pid).status() != psutil.STATUS_STOPPED:
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.05)
    worker.send_signal(signal.SIGCONT)
    assert worker.wait(60) == 0


def test_workers_die_with_the_nursery(tmp_path: Path) -> None:
    with Nursery() as nursery:
        worker = replay(nursery, tmp_path, 5, STREAMCORE_CRASH_POINT="files.before_seal:1:SIGSTOP")
        process = psutil.Process(worker.pid)
    process.wait(10)
