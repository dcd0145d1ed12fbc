"""Workers that are killed while they POST: what a server that keeps idempotency keys has in the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import polars as pl
import pytest
from aiohttp import web

from tests.services.rest import RestServer, rest_server, status

MODULE = """
import streamcore as sc
topology = sc.Topology("posting")
(topology.stream("users", {"id": "int64"})
    .to(sc.sinks.Http("${SERVER}/rows", batch_rows=ROWS, allow_private=True, bearer_token="${env:TOKEN}")))
"""
ROWS = 600


class Keeping:
    """A server that keeps keys: what comes again with one is answered, and not taken."""

    def __init__(self, server: RestServer) -> None:
        self.server, self.taken, self.repeats = server, dict[str, list[int]](), 0
        server.faults.append(self)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        key = request.headers["Idempotency-Key"]
        rows = [row["id"] for row in orjson.loads(await request.read())]
        self.repeats += key in self.taken
        assert self.taken.setdefault(key, rows) == rows, "one key, other rows"
        unlucky = len(self.taken) % 97 == 13 and key not in self.server.asked
        self.server.asked.append(key)
        self.server.faults.append(self)
        return await status(503, retry_after="0")(request) if unlucky else web.Response(status=201)

    @property
    def ids(self) -> list[int]:
        return sorted(row for rows in self.taken.values() for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "later"), [(1, 200), (20, 9)])
def test_no_row_is_lost_and_with_a_key_a_row_none_is_taken_twice(
    tmp_path: Path, rows: int, later: int
) -> None:
    (tmp_path / "posting.py").write_text(MODULE.replace("ROWS", str(rows)))
    pl.DataFrame({"id": range(ROWS)}).write_parquet(tmp_path / "users.parquet", row_group_size=150)
    with rest_server() as server:
        keeping = Keeping(server)
        environment = {**os.environ, "SERVER": server.url, "TOKEN": "s3cret"}
        environment["STREAMCORE_LIMITS__FETCH_MAX_BYTES"] = "4096"
        for kill in ("http.answered:3", f"http.answered:{later}", "http.confirmed:1", ""):
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "streamcore.cli",
                    "replay",
                    "posting.py",
                    "--from",
                    "users=users.parquet",
                ],
                cwd=tmp_path,
                env={**environment, "STREAMCORE_CRASH_POINT": kill},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert (done.returncode == 0) == (not kill), done.stderr
            assert "s3cret" not in done.stdout + done.stderr
    assert sorted(set(keeping.ids)) == list(range(ROWS)), "none lost"
    assert keeping.repeats > 0, "the server saw repeats, so the keys were needed"
    if rows == 1:
        assert keeping.ids == list(range(ROWS)), "none twice"
    assert all(headers["authorization"] == "Bearer s3cret" for headers in server.headers)
