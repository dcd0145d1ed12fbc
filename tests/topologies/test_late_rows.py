"""Late rows as a stream: each once, also when the worker died with its sink far behind the window's log."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import orjson
import pytest

from tests.topologies.conftest import ROOT, Project

MODULE = """
import streamcore as sc

topology = sc.Topology("clicks")
clicks = topology.stream("clicks", {"user": "string", "at": "int64"}, event_time="at", max_lateness="3s")
clicks.late().to(sc.sinks.JsonLines("out/late"))
clicks.window(sc.tumbling("10s")).by("user").aggregate(n="count(*)").to(sc.sinks.JsonLines("out/windows"))
"""
COMMAND = ("replay", "clicks.py", "--from", "clicks=clicks.jsonl.gz")
ROWS = 60_000


def write(folder: Path) -> tuple[list[tuple[str, int]], list[tuple[str, int, int]]]:
    """Clicks out of order, in a file that is read in one piece; the late ones and the windows, row by row."""
    chance, watermark = random.Random(5), -1
    late: list[tuple[str, int]] = []
    windows: dict[tuple[str, int], int] = {}
    with gzip.open(folder / "clicks.jsonl.gz", "wb") as file:
        for number in range(ROWS):
            user = f"u{number % 7}"
            at = max(0, number * 10 - int(chance.expovariate(1 / 800)))
            file.write(orjson.dumps({"user": user, "at": at}) + b"\n")
            if at < watermark:
                late.append((user, at))
            else:
                key = (user, at // 10_000 * 10_000)
                windows[key] = windows.get(key, 0) + 1
            watermark = max(watermark, at - 3_000)
    return sorted(late), sorted((user, start, n) for (user, start), n in windows.items())


def found(folder: Path, sink: str, columns: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        files = f"{folder}/out/{sink}/**/*.jsonl"
        return connection.execute(f"select {columns} from read_json('{files}') order by all").fetchall()


@pytest.mark.parametrize(
    "point", ["", "state_log.confirmed:2", "pipeline.before_sinks:3", "files.before_seal"]
)
def test_late_rows_are_there_once_beside_the_windows_of_the_others(project: Project, point: str) -> None:
    (project.folder / "clicks.py").write_text(MODULE)
    late, windows = write(project.folder)
    assert len(late) > 500
    environment = {"STREAMCORE_LIMITS__FETCH_MAX_BYTES": str(256 << 10)}
    if point:
        killed = subprocess.run(
            [sys.executable, "-m", "streamcore.cli", *COMMAND],
            cwd=project.folder,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT), "STREAMCORE_CRASH_POINT": point},
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    project.document(*COMMAND)
    assert found(project.folder, "late", '"user", "at"') == late
    assert found(project.folder, "windows", '"user", window_start, n') == windows


def test_late_rows_that_are_replayed_complete_the_windows(project: Project) -> None:
    """As docs/windows.md shows it: each late row is in a row for its window, from a replay of its own."""
    (project.folder / "clicks.py").write_text(MODULE)
    late, windows = write(project.folder)
    project.document(*COMMAND)
    again = project.folder / "again"
    again.mkdir()
    for number, file in enumerate(sorted((project.folder / "out" / "late").rglob("*.jsonl"))):
        rows = [orjson.loads(line) for line in file.read_bytes().splitlines()]
        rows.sort(key=lambda row: row["at"])  # in the order of time none of them is late once more
        (again / f"{number}.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    project.document("replay", "clicks.py", "--from", "clicks=again/*.jsonl")
    counted: dict[tuple[object, object], int] = {}
    for user, start, n in found(project.folder, "windows", '"user", window_start, n'):
        counted[user, start] = counted.get((user, start), 0) + int(str(n))
    expected: dict[tuple[object, object], int] = {(user, start): n for user, start, n in windows}
    for user, at in late:
        key = (user, at // 10_000 * 10_000)
        expected[key] = expected.get(key, 0) + 1
    assert counted == expected
