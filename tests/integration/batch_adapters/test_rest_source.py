"""A replay of a REST collection that is killed goes on at the page where it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.services.rest import cut, rest_server, status

MODULE = """
import streamcore as sc
topology = sc.Topology("rest")
topology.stream("users", {"id": "int64", "name": "string"}).to(sc.sinks.Parquet("out", roll_seconds=0.2))
"""


@pytest.mark.slow
def test_a_replay_killed_at_any_moment_asks_for_no_page_twice_that_a_sink_has(tmp_path: Path) -> None:
    (tmp_path / "rest.py").write_text(MODULE)
    with rest_server() as server:
        server.rows = [{"id": i, "name": "x" * 200} for i in range(20_000)]
        uri = f"{server.url}/by/cursor?allow_private=true&pagination=cursor&cursor_path=meta.next_cursor"
        uri += "&rows_path=data.items&page_size=700&bearer_token=${env:TOKEN}"
        command = [sys.executable, "-m", "streamcore.cli", "replay", "rest.py", "--from", f"users={uri}"]
        environment = {**os.environ, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "65536", "TOKEN": "s3cret"}
        asked: list[int] = []
        for kill in ("files.after_seal:2", ""):
            server.faults.extend([status(429, retry_after="0"), cut])
            server.asked.clear()
            crashed = {**environment, "STREAMCORE_CRASH_POINT": kill} if kill else environment
            done = subprocess.run(
                command, cwd=tmp_path, env=crashed, capture_output=True, text=True, check=False, timeout=120
            )
            assert "s3cret" not in done.stdout + done.stderr
            asked.append(len(server.asked))
        assert done.returncode == 0, done.stderr
        pages = 29
        assert asked[-1] < pages, "pages that are confirmed are not asked for again"
    found = pl.read_parquet(tmp_path / "out/**/*.parquet")["id"]
    assert sorted(found.to_list()) == list(range(20_000)), "none lost, none twice"
    kept = [path for path in (tmp_path / ".streamcore").rglob("*") if path.is_file()]
    assert not any(b"s3cret" in path.read_bytes() for path in kept)
