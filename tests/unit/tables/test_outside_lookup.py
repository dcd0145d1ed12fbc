"""Lookups in what may change: what comes out, what is refused, and that state stays exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.asking import Asked, Caching, ReferenceReader, nothing
from streamcore.batch import PartitionId, RecordChunk, TimedBatch, nothing_at
from streamcore.errors import BadConfig, Permanent
from streamcore.event_time import END
from streamcore.graph import Graph
from streamcore.joint import on_chunks
from streamcore.passage import Outcome
from streamcore.state.log_record import Entry, entries_of
from streamcore.stateful_task import StatefulTask
from streamcore.task import PartitionTask, Redriven, RedriveTask
from streamcore.testing import TopologyDriver
from tests.unit.topology.collecting import Collect


@dataclass(frozen=True)
class Users:
    """A reference of users that tests answer for."""

    name: str = "users"
    keys: tuple[str, ...] = ("user",)
    caching: Caching | None = None
    types: pl.Schema = field(default_factory=lambda: pl.Schema({"user": pl.Int64, "country": pl.String}))

    def reader(self, clock: Callable[[], float]) -> ReferenceReader:
        raise NotImplementedError


USERS = pl.DataFrame({"user": [1, 2], "country": ["at", None]})


def clicks() -> tuple[sc.Topology, sc.Stream]:
    topology = sc.Topology("t")
    return topology, topology.stream("clicks", {"id": "int64", "by": "int64", "at": "int64"}, event_time="at")


def rows(*by: int | None) -> list[dict[str, object]]:
    return [{"id": i, "by": user, "at": i * 1_000} for i, user in enumerate(by)]


@pytest.mark.parametrize("how", ["left", "inner"])
def test_each_row_gets_the_columns_of_its_key(how):
    topology, stream = clicks()
    stream.lookup(Users(), on={"by": "user"}, how=how).to(Collect("out"))
    driver = TopologyDriver(topology, references={"users": USERS})
    driver.push("clicks", rows(1, 3, None, 2, 1))
    found = [(row["id"], row["user"], row["country"]) for row in driver.rows("out")]
    whole = [(0, 1, "at"), (1, None, None), (2, None, None), (3, 2, None), (4, 1, "at")]
    assert found == (whole if how == "left" else [row for row in whole if row[1]])


def test_it_is_asked_for_each_key_of_a_batch_once_and_for_none_that_is_null():
    topology, stream = clicks()
    stream.filter("id > 0").lookup(Users(), on={"by": "user"}).to(Collect("out"))
    asked: list[Asked] = []

    def answer(one: Asked) -> pl.DataFrame:
        asked.append(one)
        return nothing(one)

    task = PartitionTask(topology.freeze(), "clicks", SOURCE)
    task.on_chunk(chunk(0, rows(9, 1, 1, None, 2)), answer)
    task.on_chunk(chunk(5, rows(9)), answer)
    assert [one.keys.rows() for one in asked] == [[(1,), (2,)]]
    with pytest.raises(Permanent, match="nothing here can look up rows of 'users'"):
        task.on_chunk(chunk(6, rows(9, 1)))


def test_small_chunks_of_several_partitions_ask_together():
    topology, stream = clicks()
    stream.lookup(Users(), on={"by": "user"}).to(Collect("out"))
    graph, asked = topology.freeze(), list[Asked]()

    def answer(one: Asked) -> pl.DataFrame:
        asked.append(one)
        return USERS.filter(pl.col("user").is_in(one.keys["user"].implode()))

    sources = [PartitionId("clicks", number, "x") for number in range(2)]
    chunks = [
        RecordChunk(source, range(2), [orjson.dumps(row) for row in rows(*by)])
        for source, by in zip(sources, ((1, 2), (2, 3)), strict=True)
    ]
    work = [(PartitionTask(graph, "clicks", one.source), one) for one in chunks]
    outcomes = on_chunks(work, answer)
    assert [sorted(one.keys["user"]) for one in asked] == [[1, 2, 3]]
    assert [o.writes["out"].rows["country"].to_list() for o in outcomes] == [["at", None], [None, None]]


def test_a_redriven_row_is_looked_up_again():
    topology, stream = clicks()
    looked = stream.lookup(Users(), on={"by": "user"}, name="look")
    looked.validate(sc.rules.not_null("country"), on_fail="dead-letter", name="check").to(Collect("out"))
    again = PartitionId("t.redrive", 0, "x")
    record = RecordChunk(again, range(1), [orjson.dumps(rows(1)[0])])
    redriven = [(record, Redriven("clicks", "check", 0))]
    task = RedriveTask(topology.freeze(), again, unpack=lambda chunk: redriven)
    outcome = task.on_chunk(record, lambda one: USERS.join(one.keys, on="user", how="semi"))
    assert outcome.writes["out"].rows["country"].to_list() == ["at"]
    assert len(task.on_chunk(record, nothing).rejects) == 1


def test_one_lookup_may_follow_another_and_both_may_follow_a_window():
    topology, stream = clicks()
    counts = stream.window(sc.tumbling("10s")).by("by").aggregate(n="count(*)")
    countries = Users("countries", ("code",), types=pl.Schema({"code": pl.String, "capital": pl.String}))
    looked = counts.lookup(Users(), on={"by": "user"}).lookup(countries, on={"country": "code"}, how="inner")
    looked.to(Collect("out"))
    capitals = pl.DataFrame({"code": ["at"], "capital": ["Vienna"]})
    driver = TopologyDriver(topology, references={"users": USERS, "countries": capitals})
    driver.push("clicks", [*rows(1, 2, 1), driver.CRASH, {"id": 9, "by": 1, "at": 60_000}])
    driver.end()
    found = [(row["by"], row["n"], row["capital"]) for row in driver.rows("out")]
    assert found == [(1, 2, "Vienna"), (1, 1, "Vienna")]


def test_a_driver_without_the_reference_says_how_to_give_it():
    topology, stream = clicks()
    stream.lookup(Users(), on={"by": "user"}).to(Collect("out"))
    with pytest.raises(BadConfig, match=r"has no rows of reference 'users'.*references="):
        TopologyDriver(topology).push("clicks", rows(1))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"on": {"bye": "user"}}, "did you mean 'by'"),
        ({"on": {"by": "country"}}, "can't be compared"),
        ({"on": {"id": "user", "by": "user"}, "how": "full"}, "no such lookup, got 'full'"),
        ({"on": "id"}, "did you mean|unknown column"),
    ],
)
def test_lookups_that_are_none_are_refused(given, says):
    _, stream = clicks()
    with pytest.raises(BadConfig, match=says) as refused:
        stream.lookup(Users(), **given)
    assert __file__ in str(refused.value.where)


def test_a_key_of_another_type_is_refused_with_the_cast():
    _, stream = clicks()
    narrow = Users(types=pl.Schema({"user": pl.Int32, "country": pl.String}))
    with pytest.raises(BadConfig, match=r"does not fit the key of users, got 'Int64', allowed: Int32; cast"):
        stream.lookup(narrow, on={"by": "user"})


# ------------------------------------------------------------ before state

KEYS = {
    "window": lambda s: s.window(sc.tumbling("1s")).by("country").aggregate(n="count(*)"),
    "table": lambda s: s.by("id", "country").aggregate(n="count(*)").changelog(),
    "added": lambda s: s.add_column("c", "upper(country)").by("c").first(),
    "renamed": lambda s: s.rename({"country": "c"}).by("c").first(),
    "function": lambda s: s.map(lambda row: row).by("id").first(),
    "join": lambda s: s.join(s.select("id", "at").rename({"id": "i", "at": "t"}), on={"user": "i"}),
    "static": lambda s: (
        s.lookup(pl.DataFrame({"code": ["at"], "area": [1]}), on={"country": "code"}).by("area").first()
    ),
}
OTHERS = {
    "window": lambda s: s.window(sc.tumbling("1s")).by("by").aggregate(n="count(country)"),
    "all": lambda s: s.window(sc.tumbling("1s")).aggregate(n="count(country)"),
    "filtered": lambda s: s.filter("country = 'at'").by("by").first(),
    "replaced": lambda s: s.add_column("country", "by").by("country").first(),
    "validated": lambda s: s.validate(sc.rules.not_null("country")).by("by").first(),
    "join": lambda s: s.join(s.select("id", "at").rename({"id": "i", "at": "t"}), on={"by": "i"}),
    "windows": lambda s: s.join(
        s.select("id", "at").rename({"id": "i", "at": "t"}), on={"by": "i"}, window=sc.tumbling("1s")
    ),
    "behind state": lambda s: s.by("id").first().by("country").first(),
}


@pytest.mark.parametrize("kind", KEYS)
def test_what_was_looked_up_can_not_sort_rows_to_the_partitions_of_a_log(kind):
    topology, stream = clicks()
    KEYS[kind](stream.lookup(Users(), on={"by": "user"})).to(Collect("out"))
    with pytest.raises(BadConfig, match=r"were looked up outside.*look up behind it") as refused:
        topology.freeze()
    assert __file__ in str(refused.value.where)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_keys_may_be_behind_a_lookup(kind):
    topology, stream = clicks()
    OTHERS[kind](stream.lookup(Users(), on={"by": "user"})).to(Collect("out"))
    topology.freeze()


SOURCE = PartitionId("clicks", 0, "x")


def chunk(start: int, values: Sequence[dict[str, object]]) -> RecordChunk:
    return RecordChunk(SOURCE, range(start, start + len(values)), [orjson.dumps(value) for value in values])


def written(
    graph: Graph, node: str, values: Sequence[dict[str, object]], cuts: Sequence[int], country: str | None
) -> list[Entry]:
    """What a worker that finds *country* for each user writes to the log of *node*."""

    def answer(asked: Asked) -> pl.DataFrame:
        found = asked.keys.with_columns(pl.lit(country, pl.String).alias("country"))
        return found if country is not None else found.clear()

    task, entries = PartitionTask(graph, "clicks", SOURCE), list[Entry]()
    bounds = sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)})
    outcomes: list[Outcome] = [task.on_chunk(chunk(a, values[a:b]), answer) for a, b in pairwise(bounds)]
    outcomes.append(task.on_watermark(nothing_at(SOURCE, len(values)), END))
    for outcome in outcomes:
        batch = outcome.writes[node]
        assert isinstance(batch, TimedBatch)
        entries += entries_of(batch, "")
    return entries


CUTS = st.lists(st.integers(0, 20), max_size=4)


@settings(deadline=None, max_examples=60)
@given(by=st.lists(st.integers(0, 2), max_size=20), cuts=CUTS, others=CUTS, data=st.data())
def test_a_row_that_two_writers_found_other_values_for_counts_once(by, cuts, others, data):
    """Also where one of them found none, and left the row out: the first that wrote it is right."""
    topology, stream = clicks()
    windows = stream.lookup(Users(), on={"by": "user"}, how="inner").window(sc.tumbling("5s")).by("by")
    windows.aggregate(name="w", n="count(*)", values="count(distinct country)").to(Collect("out"))
    graph, values = topology.freeze(), rows(*by)
    mine = written(graph, "w", values, cuts, "a")
    other = data.draw(st.sampled_from(["b", None]))
    theirs = written(graph, "w", values, others, other)
    log, waiting = [], [mine, theirs]
    while any(waiting):
        writer = data.draw(st.sampled_from([w for w in waiting if w]))
        entry = writer[0]
        reached = max((e.end for e in log), default=0)
        if entry.start > reached:  # nobody begins behind the log's end
            writer = next(w for w in waiting if w and w[0].start <= reached)
        log.append(writer.pop(0))
    task = StatefulTask(graph, "w", PartitionId("w", 0, "x"), [("clicks", 0)])
    counts: Counter[tuple[object, object]] = Counter()
    for entry in log:
        outcome = task.on_entries([entry])
        if outcome is not None and "out" in outcome.writes:
            for row in outcome.writes["out"].rows.iter_rows(named=True):
                counts[row["by"], row["window_start"]] += row["n"]
    whole = Counter((row["by"], row["at"] // 5_000 * 5_000) for row in values)
    assert all(counts[key] <= whole[key] for key in counts)
    assert set(counts) <= set(whole)
    if other is not None:
        assert counts == whole
