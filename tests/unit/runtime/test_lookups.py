"""What a worker fetches and remembers of a reference, and how it waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from batch_adapters.catalogue import open_source
from streamcore.asking import Asked, Asking, AskingEach, Caching
from streamcore.errors import Permanent, Transient
from streamcore.graph import Graph
from streamcore.observability.metrics import Metrics
from streamcore.runtime.lookup_cache import LookupCache
from streamcore.runtime.lookups import Abandoned, Lookups
from streamcore.runtime.replay import ReplayOptions, replay
from streamcore.runtime.retry import Retries
from streamcore.settings import Settings
from tests.integration.runtime.memory_sink import MemorySink, Target
from tests.unit.tables.test_outside_lookup import Users
from tests.unit.topology.collecting import Collect

TYPES = pl.Schema({"user": pl.Int64, "country": pl.String})


class Reader:
    """Users with even numbers are there; *fails* are raised first."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.fails: list[Exception] = []
        self.version = 0
        self.closed = self.broken = False

    async def start(self) -> None:
        if self.fails:
            raise self.fails.pop(0)

    async def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        if self.fails:
            raise self.fails.pop(0)
        if self.broken:
            raise Transient("broken", where="there")
        self.asked.append(keys["user"].to_list())
        there = keys.filter(pl.col("user") % 2 == 0)
        return there.with_columns(pl.format("{}-{}", "user", pl.lit(self.version)).alias("country"))

    async def close(self) -> None:
        self.closed = True


class Given(Users):
    """A reference with a reader of the test's."""

    live: Reader

    def reader(self, clock: Callable[[], float]) -> Reader:
        return self.live


class Scene:
    def __init__(self, caching: Caching | None, give_up_after: float = 5.0) -> None:
        self.now, self.reader = 0.0, Reader()
        reference = Given(caching=caching)
        object.__setattr__(reference, "live", self.reader)
        self.reference = reference
        topology = sc.Topology("t")
        stream = topology.stream("s", {"user": "int64"})
        stream.lookup(reference, on="user", name="look").to(Collect("out"))
        self.graph: Graph = topology.freeze()
        retries = Retries(0.001, 0.002, give_up_after)
        self.lookups = Lookups(self.graph, retries, lambda: self.now, Metrics())

    def ask(self, *users: int, wanted: Callable[[], bool] = lambda: True) -> dict[int, str]:
        def asking() -> Asking[pl.DataFrame]:
            rows: pl.DataFrame = yield Asked("look", self.reference, pl.DataFrame({"user": users}))
            return rows

        rows = asyncio.run(self.lookups.answered(asking(), wanted))
        assert rows.schema == TYPES
        return dict(rows.sort("user").iter_rows())


def test_only_what_is_not_remembered_is_fetched_and_that_there_is_none_is_remembered_too():
    scene = Scene(Caching(100, seconds=10, misses=5))
    assert scene.ask(1, 2) == {2: "2-0"}
    scene.reader.version = 1
    assert scene.ask(1, 2, 4) == {2: "2-0", 4: "4-1"}
    scene.now = 5
    assert scene.ask(1, 2) == {2: "2-0"}
    scene.now = 10
    assert scene.ask(2, 4) == {2: "2-1", 4: "4-1"}
    assert [sorted(users) for users in scene.reader.asked] == [[1, 2], [4], [1], [2, 4]]


def test_without_caching_each_batch_asks():
    scene = Scene(None)
    assert [scene.ask(2), scene.ask(2)] == [{2: "2-0"}] * 2
    assert scene.reader.asked == [[2], [2]]


def test_a_reference_that_can_not_be_reached_is_asked_again_until_it_answers():
    scene = Scene(None)
    scene.reader.fails = [Transient("down", where="there"), Transient("down still", where="there")]
    assert scene.ask(2) == {2: "2-0"}
    assert scene.lookups.errors == {}


def test_one_that_stays_away_ends_the_worker_with_its_name():
    scene = Scene(None, give_up_after=0.003)
    scene.reader.fails = [Transient("down", where="there")] * 99
    with pytest.raises(Permanent, match=r"lookup look failed for .*down"):
        scene.ask(2)
    assert "down" in scene.lookups.errors["look"]


def test_nobody_waits_for_an_answer_that_is_not_wanted_any_more():
    scene = Scene(None)
    scene.reader.fails = [Transient("down", where="there")] * 99
    with pytest.raises(Abandoned):
        scene.ask(2, wanted=lambda: False)


def test_start_tries_again_and_close_closes():
    scene = Scene(None)
    scene.reader.fails = [Transient("not yet", where="there")]
    asyncio.run(scene.lookups.start())
    asyncio.run(scene.lookups.close())
    assert scene.reader.closed
    assert scene.lookups.errors == {}


def test_results_between_the_questions_come_in_order():
    scene = Scene(None)

    def asking() -> AskingEach[object]:
        yield "first"
        rows = yield Asked("look", scene.reference, pl.DataFrame({"user": [2]}))
        yield rows.rows()
        yield "last"

    async def run() -> list[object]:
        return [made async for made in scene.lookups.answered_each(asking(), lambda: True)]

    assert asyncio.run(run()) == ["first", [(2, "2-0")], "last"]


@settings(deadline=None, max_examples=40)
@given(asks=st.lists(st.tuples(st.sets(st.integers(0, 30), min_size=1), st.integers(0, 4)), max_size=20))
def test_a_cache_knows_what_was_last_said_and_no_more_than_it_may(asks):
    cache = LookupCache(TYPES, ("user",), Caching(20, seconds=5, misses=2))
    said: dict[int, tuple[float, str | None]] = {}
    now = 0.0
    for version, (users, passed) in enumerate(asks):
        now += passed
        keys = pl.DataFrame({"user": sorted(users)})
        known, missing = cache.known(keys, now)
        for user, country in known.iter_rows():
            until, last = said[user]
            assert (country, now < until) == (last, True)
        for user in set(keys["user"]) - set(missing["user"]) - set(known["user"]):
            assert (said[user][1], now < said[user][0]) == (None, True)
        there = missing.filter(pl.col("user") % 2 == 0)
        rows = there.with_columns(pl.lit(str(version)).alias("country"))
        cache.add(missing, rows, now)
        for user in missing["user"]:
            said[user] = (now + 2, None) if user % 2 else (now + 5, str(version))
        assert len(cache) <= 20


@pytest.mark.parametrize("kept", [False, True])
def test_a_job_that_is_to_stop_does_not_wait_for_a_reference_and_loses_nothing(tmp_path, kept):
    """Also where the lookup is behind a table: what waits is done when the job goes on."""
    rows = pl.DataFrame({"user": range(4_000)})
    rows.write_parquet(tmp_path / "s.parquet", row_group_size=500)
    target, scene = Target(), Scene(None)

    def topology() -> sc.Topology:
        topology = sc.Topology("t")
        stream = topology.stream("s", {"user": "int64"})
        if kept:
            stream = stream.by("user").first()
        stream.lookup(scene.reference, on="user").to(MemorySink("out", target))
        return topology

    async def run(*, stop_after: float | None) -> str:
        stop = asyncio.Event()
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, stop.set)
        retry = {"initial_s": 0.05, "max_s": 0.1}
        settings = Settings.model_validate({"state": {"dir": tmp_path / "state"}, "retry": retry})
        source = {"s": open_source(str(tmp_path / "s.parquet"))}
        return (await replay(topology(), source, ReplayOptions(settings), lambda _: None, stop)).status

    scene.reader.broken = True
    assert asyncio.run(asyncio.wait_for(run(stop_after=1.0), 15)) != "finished"
    assert not target.frame().height
    scene.reader.broken = False
    assert asyncio.run(run(stop_after=None)) == "finished"
    found = target.frame().sort("user")
    assert found["user"].to_list() == list(range(4_000))
    assert found["country"].null_count() == 2_000
