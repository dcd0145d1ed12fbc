"""A window over a replayed file: the batch answer, also after kills wherever state is at stake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import duckdb
import pytest

from tests.topologies.conftest import ROOT, Project

DELAYS = ("replay", "topologies.delays", "--from", "flights=data/flights-200k.parquet")
EXPECTED = """
    select origin, date_trunc('day', date) as day, count(*), count(*) filter (where delay > 15),
        round(avg(delay), 9), max(delay)
    from 'data/flights-200k.parquet' where delay > -60
    group by all having count(*) filter (where delay > 15) > 0 order by all"""
FOUND = """
    select origin, window_start::timestamp, flights, late, round(mean_delay, 9), worst
    from read_parquet('out/delays/**/*.parquet') order by all"""


def ask(project: Project, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"set file_search_path = '{project.folder}'")
        return connection.execute(query).fetchall()


def kill_at(project: Project, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamcore.cli", *DELAYS],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "STREAMCORE_CRASH_POINT": point},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, "the replay ended before the fault came"


def test_windows_of_a_replay_equal_the_same_question_in_sql(project):
    summary = project.document(*DELAYS)
    expected = ask(project, EXPECTED)
    assert len(expected) > 1_000
    assert ask(project, FOUND) == expected
    assert summary["rows_out"] == {"parquet:out/delays": len(expected)}
    assert summary["late"] == {"flights/window": 0}

    again = project.document(*DELAYS)
    assert (again["status"], again["rows_in"]) == ("already finished", 0)
    assert ask(project, FOUND) == expected


@pytest.mark.parametrize("point", [
    "pipeline.taken_over", "pipeline.before_sinks", "pipeline.before_sinks:3",
    "state_log.confirmed", "pipeline.before_sinks:2", "files.before_seal", "files.after_seal",
    "files.after_outputs", "commit.before",
])  # fmt: skip
def test_a_replay_that_was_killed_gives_each_window_once(project, point, monkeypatch):
    monkeypatch.setenv("STREAMCORE_STATE__MEMORY_MB", "0")  # state on disk is as good, and leaves nothing
    kill_at(project, point)
    assert not [*(project.folder / ".streamcore").rglob("tmp*")]
    # "already" where the seal was the last thing missing: the sink writes it when it opens
    assert project.document(*DELAYS)["status"] in ("finished", "already finished")
    assert ask(project, FOUND) == ask(project, EXPECTED)


def test_a_dry_run_shows_windows_and_writes_nothing(project):
    shown = project.document(*DELAYS, "--dry-run")
    assert shown["rows_in"] == 1_000
    assert "mean_delay" in json.dumps(shown)
    assert not (project.folder / "out").exists()
