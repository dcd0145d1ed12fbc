"""REST collections that are read in runs, by a mark: what each run asks for and gives, kill -9, mistakes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import streamcore as sc
from batch_adapters.catalogue import open_source
from streamcore.contracts.unbounded import CatchingUpReader, CatchingUpSource, Incremental
from streamcore.errors import BadConfig
from streamcore.runtime.live import catch_up, changes_of
from streamcore.runtime.replay import ReplayOptions
from streamcore.settings import Settings
from streamcore.sources.catalogue import open_unbounded
from streamcore.testing.unbounded import ids_of, reading
from tests.integration.sources.test_polling import MODULE, rows_in
from tests.services.rest import RestServer, rest_server


@pytest.fixture
def server() -> Iterator[RestServer]:
    with rest_server() as running:
        running.since = lambda row, since: isinstance(row, dict) and row["version"] >= int(since)
        yield running


def put(server: RestServer, ids: Sequence[int]) -> None:
    """New rows, or new versions of those with these ids, behind the others."""
    stays = [row for row in server.rows if isinstance(row, dict) and row["id"] not in ids]
    top = max((row["version"] for row in server.rows if isinstance(row, dict)), default=0)
    server.rows = stays + [
        {"id": id, "name": f"name {id}", "version": top + n} for n, id in enumerate(ids, 1)
    ]


def written(server: RestServer) -> Counter[tuple[int, int]]:
    return Counter((row["id"], row["version"]) for row in server.rows if isinstance(row, dict))


def uri(server: RestServer, path: str = "/by/page?pagination=page&page_size=50") -> str:
    return f"{server.url}{path}&allow_private=true"


def by_changes(uri: str) -> CatchingUpSource:
    source = open_source(uri)
    assert isinstance(source, Incremental)
    return source.taken_in()


def run_here(folder: Path, uri: str, *, again: bool = False) -> int:
    """How many rows a run in this process reads."""
    topology = sc.Topology("people")
    columns = {"id": "int64", "name": "string", "version": "int64"}
    topology.stream("users", columns).to(sc.sinks.JsonLines(str(folder / "out")))
    settings = Settings.model_validate({"state": {"dir": folder / "state"}})
    changes = changes_of({"users": open_source(uri)})
    summary = asyncio.run(catch_up(topology, changes, ReplayOptions(settings, again=again), lambda _: None))
    assert summary.status == "finished"
    return summary.progress.rows_in


def test_each_run_asks_for_what_is_new_and_again_for_all(server: RestServer, tmp_path: Path) -> None:
    source = f"{uri(server)}&mark=version&lag=5&since=3"
    put(server, range(120))
    read = [run_here(tmp_path, source), run_here(tmp_path, source)]
    put(server, [7, 200])
    server.rows = [*server.rows, {"id": 300, "name": "late", "version": 118}]
    read += [run_here(tmp_path, source), run_here(tmp_path, source, again=True)]
    assert read == [118, 0, 3, 120]
    of_runs = [path.partition("since=")[2].partition("&")[0] for path in server.asked if "page=1" in path]
    assert of_runs == ["3", "115", "115", "3"]


def test_a_poll_for_ever_goes_on_behind_the_last_run(server: RestServer) -> None:
    put(server, range(120))
    run = by_changes(f"{uri(server)}&mark=version")
    poll = open_unbounded(f"{uri(server)}&poll=version&every=10ms")
    assert run.identity() == poll.identity()
    bookmark = to_the_end(run, b"")[1]
    put(server, [5])
    with reading(poll, bookmark) as reader:
        while (one := reader.poll(1 << 20, 0.0)) is None or not one.parts:
            pass
        assert [id for id, _ in ids_of(one)] == [5]


def test_a_run_that_goes_on_within_a_round_reads_what_moved_to_pages_before_it(server: RestServer) -> None:
    """Whoever numbers the pages has other rows on them by then."""
    put(server, range(120))
    source = by_changes(f"{uri(server)}&mark=version&lag=1000")
    with reading(source) as reader:
        while (one := reader.poll(1, 0.0)) is None or not one.parts or json.loads(one.bookmark)[0] is None:
            pass
        within_page_2 = one.bookmark
    server.rows = server.rows[60:]  # most of the second page are on the first one now
    assert set(to_the_end(source, within_page_2)[0]) == set(range(60, 120))


def to_the_end(source: CatchingUpSource, bookmark: bytes) -> tuple[list[int], bytes]:
    """The ids that a run gives behind *bookmark*, and the bookmark at its end."""
    ids: list[int] = []
    with reading(source, bookmark) as reader:
        assert isinstance(reader, CatchingUpReader)
        while not reader.caught_up:
            one = reader.poll(1 << 20, 0.0)
            if one is not None and (one.parts or one.keep):
                ids, bookmark = ids + [id for id, _ in ids_of(one)], one.bookmark
    return ids, bookmark


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_exactly_though_rows_change_meanwhile(
    server: RestServer, tmp_path: Path
) -> None:
    (tmp_path / "people.py").write_text(MODULE.replace("NAME", "people"))
    source, seen = f"{uri(server)}&mark=version&lag=20", Counter[tuple[int, int]]()

    def run(crash: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "streamcore.cli", "replay", "people.py", "--from", f"users={source}"],
            cwd=tmp_path,
            env={**os.environ, "STREAMCORE_CRASH_POINT": crash, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "4096"},
            capture_output=True,
            check=False,
            timeout=300,
        ).returncode

    put(server, range(300))
    for point in ("intake.before_commit:3", "live.appended:5"):
        seen |= written(server)
        assert run(point) == -9
        put(server, range(250, 450))
    assert run("") == 0
    found = rows_in(tmp_path)
    assert max(found.values()) == 1, "none twice"
    assert set(found) <= set(seen | written(server))
    assert set(written(server)) <= set(found), "each row as it is now"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("/all?mark=version&lag=soon", "no duration"),
        ("/all?marks=version", "did you mean 'mark'"),
        ("/all?mark=version&pagination=cursor", "cursor_path="),
    ],
)
def test_mistakes_are_found_before_anything_is_asked(server: RestServer, query: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        open_source(uri(server, query))
    assert not server.asked
