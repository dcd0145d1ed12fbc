"""Replays in runs, by a mark: each reads what is new, and in how many runs makes no difference."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

import streamcore as sc
from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig
from streamcore.progress import Summary
from streamcore.runtime.live import catch_up, changes_of
from streamcore.runtime.replay import ReplayOptions, replay
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.kafka_log import KafkaLog
from tests.services.kafka import KafkaServer

Row = tuple[int, str, int, str]
TABLE = "create table users (id integer primary key, name text, version integer, at text)"


class Shop:
    """A table of SQLite whose rows change; ``written``: each (id, version) that a run could see."""

    def __init__(self, folder: Path) -> None:
        self.path, self._version = folder / "shop.db", 0
        self.written: Counter[tuple[int, int]] = Counter()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(TABLE)
            connection.commit()

    def put(self, ids: Sequence[int]) -> None:
        """New rows, or new versions of those with these ids."""
        rows = []
        for id in ids:
            self._version += 1
            self.written[id, self._version] += 1
            rows.append((id, f"name {id}", self._version, f"2026-01-01T00:00:{self._version % 60:02}"))
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany("insert or replace into users values (?, ?, ?, ?)", rows)
            connection.commit()

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}?table=users&mark=version&settle=0s"


COLUMNS = {"id": "int64", "name": "string", "version": "int64"}


def in_runs(folder: Path, rows: Sequence[Row], cuts: Sequence[int]) -> list[str]:
    """What comes of *rows*, written and replayed up to each of *cuts*, through windows and tables."""
    folder.mkdir()
    database = folder / "shop.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(TABLE)
        connection.commit()
    settings = Settings.model_validate({"state": {"dir": folder / "state"}})
    for low, high in itertools.pairwise([0, *cuts, len(rows)]):
        with closing(sqlite3.connect(database)) as connection:
            connection.executemany("insert into users values (?, ?, ?, ?)", rows[low:high])
            connection.commit()
        topology = sc.Topology("counted")
        users = topology.stream(
            "users",
            {"name": "string", "version": "int64", "at": "datetime"},
            event_time="at",
            max_lateness="10m",
        )
        users.window(sc.tumbling("1h")).by("name").aggregate(rows="count(*)", most="max(version)").to(
            sc.sinks.JsonLines(str(folder / "windows"))
        )
        users.by("name").aggregate(rows="count(*)").to(
            sc.sinks.SQLite("totals", folder / "totals.db", key="name", create=True)
        )
        source = open_source(
            f"sqlite:///{database}?table=users&columns=name,version,at&mark=version&settle=0s"
        )
        summary = asyncio.run(
            catch_up(topology, changes_of({"users": source}), ReplayOptions(settings), lambda _: None)
        )
        assert summary.status == "finished"
        assert summary.progress.rows_in == high - low
    with closing(sqlite3.connect(folder / "totals.db")) as connection:
        totals = [str(row) for row in connection.execute("select name, rows from totals")]
    return sorted(
        totals + [line for f in folder.glob("windows/*.jsonl") for line in f.read_text().splitlines()]
    )


@pytest.mark.parametrize("seed", range(2))
def test_in_how_many_runs_a_table_is_read_changes_nothing(tmp_path: Path, seed: int) -> None:
    """Windows that are open at a run's end are counted on in the next one."""
    rng = random.Random(seed)
    rows = [
        (i, rng.choice("abc"), i, f"2026-01-01T{i // 20:02}:{rng.randrange(60):02}:00") for i in range(200)
    ]
    rows.append((200, "z", 200, "2026-01-03T00:00:00"))
    cuts = sorted(rng.sample(range(1, 200), 2))
    once = in_runs(tmp_path / "once", rows, [])
    assert len(once) > 25
    assert in_runs(tmp_path / "in runs", rows, cuts) == once


MODULE = """
import streamcore as sc
topology = sc.Topology("NAME")
columns = {"id": "int64", "name": "string", "version": "int64"}
users = topology.stream("users", columns, key="id", topic="NAME")
users.to(sc.sinks.JsonLines("out", roll_seconds=0.1))
users.to(sc.sinks.SQLite("users", "out.db", create=True))
"""


COMMAND = [sys.executable, "-m", "streamcore.cli", "--json", "replay", "people.py", "--from"]


def run(folder: Path, shop: Shop, *options: str, crash: str = "") -> subprocess.CompletedProcess[str]:
    """``streamcore replay``, killed at *crash*."""
    return subprocess.run(
        [*COMMAND, f"users={shop.uri}", *options],
        cwd=folder,
        env={**os.environ, "STREAMCORE_CRASH_POINT": crash, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "4096"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def in_files(folder: Path) -> Counter[tuple[int, int]]:
    lines = [line for file in folder.glob("out/*.jsonl") for line in file.read_text().splitlines()]
    return Counter((row["id"], row["version"]) for row in map(json.loads, lines))


def in_table(folder: Path) -> Counter[tuple[int, int]]:
    with closing(sqlite3.connect(folder / "out.db")) as connection:
        return Counter(connection.execute("select id, version from users").fetchall())


@pytest.mark.slow
def test_a_second_run_that_is_killed_goes_on_exactly_though_rows_change_meanwhile(tmp_path: Path) -> None:
    """Two sinks, which stand at different places when the process is killed."""
    shop = Shop(tmp_path)
    (tmp_path / "people.py").write_text(MODULE.replace("NAME", "people"))
    shop.put(range(300))
    first = run(tmp_path, shop)
    assert json.loads(first.stdout)["rows_in"] == 300, first.stderr
    last: set[tuple[int, int]] = set()
    for point in ("intake.before_commit:2", "files.before_seal:1", "sqlite.before_commit:1"):
        seen = in_files(tmp_path) & in_table(tmp_path)
        shop.put(range(250, 600))
        killed = run(tmp_path, shop, crash=point)
        assert killed.returncode == -9, killed.stderr
        shop.put(range(580, 590))
        assert seen <= in_files(tmp_path), "what was there stays"
    done = run(tmp_path, shop)
    assert json.loads(done.stdout)["status"] == "finished", done.stderr
    for found in (in_files(tmp_path), in_table(tmp_path)):
        assert max(found.values()) == 1, "none twice"
        assert set(found) <= set(shop.written)
        with closing(sqlite3.connect(shop.path)) as connection:
            last = set(connection.execute("select id, version from users").fetchall())
        assert last <= set(found), "each row as it is now"
    assert in_files(tmp_path) == in_table(tmp_path), "both sinks have seen the same history"
    again = json.loads(run(tmp_path, shop).stdout)
    assert (again["status"], again["rows_in"]) == ("finished", 0)


@pytest.mark.slow
def test_runs_into_kafka_are_exact_too(kafka: KafkaServer, tmp_path: Path) -> None:
    shop, name = Shop(tmp_path), f"runs-{uuid.uuid4().hex[:8]}"
    (tmp_path / "people.py").write_text(MODULE.replace("NAME", name))

    async def topic() -> Counter[tuple[int, int]]:
        log, found = KafkaLog(KafkaConnection.parse(kafka.url)), Counter[tuple[int, int]]()
        await log.create(name, 2, {})
        for partition, bounds in (await log.bounds(name)).items():
            async for chunk in log.scan(name, partition, *bounds):
                found.update((r["id"], r["version"]) for r in (json.loads(v) for v in chunk.values() if v))
        await log.close()
        return found

    asyncio.run(topic())
    shop.put(range(300))
    assert run(tmp_path, shop, "--broker", kafka.url).returncode == 0
    shop.put(range(300, 600))
    assert run(tmp_path, shop, "--broker", kafka.url, crash="live.appended:1").returncode == -9
    assert run(tmp_path, shop, "--broker", kafka.url).returncode == 0
    assert asyncio.run(topic()) == shop.written, "none lost, none twice"


def caught_up(folder: Path, shop: Shop, *, again: bool = False) -> Summary:
    """A run in this process."""
    topology = sc.Topology("people")
    topology.stream("users", COLUMNS).to(sc.sinks.JsonLines(str(folder / "out")))
    settings = Settings.model_validate({"state": {"dir": folder / "state"}})
    changes = changes_of({"users": open_source(shop.uri)})
    return asyncio.run(catch_up(topology, changes, ReplayOptions(settings, again=again), lambda _: None))


def test_again_reads_all_rows_once_more_and_the_next_run_what_is_new(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.put(range(10))
    read = [
        caught_up(tmp_path, shop).progress.rows_in,
        caught_up(tmp_path, shop, again=True).progress.rows_in,
    ]
    shop.put([3])
    read.append(caught_up(tmp_path, shop).progress.rows_in)
    assert read == [10, 10, 1]
    assert in_files(tmp_path) == Counter({(id, id + 1): 2 for id in range(10)}) + Counter({(3, 11): 1})


def test_a_run_that_is_stopped_says_so_and_the_next_one_goes_on(tmp_path: Path) -> None:
    shop, stop = Shop(tmp_path), asyncio.Event()
    shop.put(range(5000))
    topology = sc.Topology("people")
    topology.stream("users", COLUMNS).to(sc.sinks.JsonLines(str(tmp_path / "out")))
    settings = Settings.model_validate({"state": {"dir": tmp_path / "state"}})

    stop.set()
    changes = changes_of({"users": open_source(shop.uri)})
    summary = asyncio.run(catch_up(topology, changes, ReplayOptions(settings), lambda _: None, stop))
    assert summary.status == "interrupted"
    assert caught_up(tmp_path, shop).status == "finished"
    assert in_files(tmp_path) == shop.written


def test_sinks_that_wait_for_larger_files_do_not_hold_a_run_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is full before a file is: nothing would move until its time is over."""
    shop, opened = Shop(tmp_path), Broker.open
    shop.put(range(4000))
    monkeypatch.setattr(
        Broker, "open", lambda url, **_: opened(url, partition_bytes=100_000, segment_bytes=20_000)
    )
    topology = sc.Topology("people")
    topology.stream("users", COLUMNS).to(sc.sinks.JsonLines(str(tmp_path / "out"), roll_seconds=100_000))
    settings = Settings.model_validate(
        {
            "state": {"dir": tmp_path / "state"},
            "runtime": {"commit_interval_s": 0.1},
            "limits": {"fetch_max_bytes": 20_000},
        }
    )
    changes = changes_of({"users": open_source(shop.uri)})
    caught = catch_up(topology, changes, ReplayOptions(settings), lambda _: None)
    assert asyncio.run(asyncio.wait_for(caught, 120)).status == "finished"
    assert in_files(tmp_path) == shop.written


def test_what_has_an_end_and_what_is_read_in_runs_are_not_mixed(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    (tmp_path / "more.csv").write_text("id,name,version\n1,a,1\n")
    with pytest.raises(BadConfig, match=r"more\.csv"):
        changes_of({"users": open_source(shop.uri), "more": open_source(tmp_path / "more.csv")})
    topology = sc.Topology("people")
    topology.stream("users", COLUMNS).to(sc.sinks.JsonLines(str(tmp_path / "out")))
    with pytest.raises(BadConfig, match="catch_up"):
        asyncio.run(replay(topology, {"users": open_source(shop.uri)}, ReplayOptions(), lambda _: None))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("table=users&mark=versoin", "did you mean 'version'"),
        ("table=users&mark=version&settle=often", "no duration"),
        ("table=users&settle=1s&mark=name&where=name is not null", ""),
    ],
)
def test_mistakes_are_found_before_a_row_is_read(tmp_path: Path, uri: str, says: str) -> None:
    shop = Shop(tmp_path)
    if not says:
        assert open_source(f"sqlite:///{shop.path}?{uri}".replace(" ", "%20")).columns()
        return
    with pytest.raises(BadConfig, match=says):
        open_source(f"sqlite:///{shop.path}?{uri}")


@pytest.mark.parametrize("option", ["--limit=5", "--speed=2"])
def test_options_that_do_not_go_with_a_mark_are_refused(tmp_path: Path, option: str) -> None:
    shop = Shop(tmp_path)
    (tmp_path / "people.py").write_text(MODULE.replace("NAME", "people"))
    refused = run(tmp_path, shop, option)
    assert refused.returncode == 2, refused.stderr
    assert "does not go with mark=" in refused.stderr
