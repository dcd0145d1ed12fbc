"""The topologies of the simulation: each branch declares a part of one, and says what must come out of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

import streamcore as sc
from streamcore.contracts import Sink
from streamcore.stream import Stream
from tests.simulation import oracle
from tests.simulation.feed import LATENESS, Feed
from tests.simulation.oracle import MOST, Document, Judged, Row

Declared = Mapping[str, object]


class RowEvent(sc.Event):
    id: str
    key: str
    shop: str | None
    at: int | None
    n: int = Field(ge=0)


class OtherEvent(sc.Event):
    oid: str
    key: str
    oat: int | None
    m: int = Field(ge=0)


@dataclass(frozen=True)
class Wanted:
    """What a sink must hold: ``rows`` that are added, or (``key``) those of a table as they are at last."""

    rows: list[Document]
    key: tuple[str, ...] = ()
    by_position: bool = False
    """The rows are those of a source, one a record: where each stands is known."""


@dataclass
class Branch:
    """A part of a topology. *declare* gives the stream that its sinks get; *wanted* what they must hold."""

    name: str
    declare: Callable[[Mapping[str, Stream]], Stream]
    wanted: Callable[[Judged], Wanted]
    joins: bool = False
    timed: bool = False
    sinks: list[str] = field(default_factory=list)


def _rows(judged: Judged) -> list[Row]:
    return judged.of("rows")


# ---------------------------------------------------------------- rows that pass


def passing() -> Branch:
    """Stateless steps."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        dear = streams["rows"].filter("n >= 50")
        return dear.add_column("band", "case when n < 100 then 'low' else 'high' end")

    def wanted(judged: Judged) -> Wanted:
        found = [row.document for row in _rows(judged) if row.document["n"] >= 50]
        return Wanted([{**row, "band": "low" if row["n"] < 100 else "high"} for row in found])

    return Branch("passing", declare, wanted)


def whole() -> Branch:
    """All rows, some of which the database refuses."""

    def wanted(judged: Judged) -> Wanted:
        return Wanted([row.document for row in _rows(judged)], by_position=True)

    return Branch("whole", lambda streams: streams["rows"], wanted)


def late() -> Branch:
    """The rows that come too late for a window, and the window."""

    def wanted(judged: Judged) -> Wanted:
        return Wanted([row.document for row in _rows(judged) if row.late])

    return Branch("late", lambda streams: streams["rows"].late(name="late"), wanted)


# ---------------------------------------------------------------- windows


def _sums(rows: Sequence[Document]) -> Document:
    return {"counted": len(rows), "total": sum(row["n"] for row in rows)}


def _window(name: str, kind: object, found: Callable[[list[Row]], dict], *, patience: int = 0) -> Branch:
    def declare(streams: Mapping[str, Stream]) -> Stream:
        window = streams["rows"].window(kind).by("shop")  # type: ignore[arg-type]
        return window.aggregate(counted="count(*)", total="sum(n)", name=name)

    def wanted(judged: Judged) -> Wanted:
        least = judged.watermarks["rows"]
        windows = found(oracle.timely(judged, _rows(judged), name))
        closed = {key: value for key, value in windows.items() if key[2] + patience <= least}
        return Wanted([_windowed(key, value) for key, value in closed.items()])

    return Branch(name, declare, wanted, timed=True)


def _windowed(key: tuple[object, int, int], value: Document) -> Document:
    shop, start, end = key
    return {"shop": shop, "window_start": start, "window_end": end, **value}


def tumbling() -> Branch:
    return _window("tumbling", sc.tumbling("10ms"), _tumbled)


def _tumbled(rows: list[Row]) -> dict[tuple[object, int, int], Document]:
    return oracle.windows(rows, lambda at: [at // 10 * 10], 10, _sums)


def hopping() -> Branch:
    def starts(at: int) -> list[int]:
        return [start for start in range(at // 4 * 4, at - 10, -4) if start + 10 > at]

    return _window(
        "hopping", sc.hopping("10ms", every="4ms"), lambda rows: oracle.windows(rows, starts, 10, _sums)
    )


def session() -> Branch:
    """A session ends when time is past its last row by more than the gap."""
    return _window("session", sc.session("5ms"), lambda rows: oracle.sessions(rows, 5, _sums), patience=1)


def windows_of_windows() -> Branch:
    """How many windows of shops closed within each span."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        inner = streams["rows"].window(sc.tumbling("10ms")).by("shop")
        shops = inner.aggregate(counted="count(*)", name="inner")
        return shops.window(sc.tumbling("20ms")).aggregate(
            windows="count(*)", counted="sum(counted)", name="outer"
        )

    def wanted(judged: Judged) -> Wanted:
        least = judged.watermarks["rows"]
        inner = _tumbled(oracle.timely(judged, _rows(judged), "inner"))
        spans: dict[int, list[int]] = {}
        for (_, start, end), value in inner.items():
            if end <= least:
                spans.setdefault(start // 20 * 20, []).append(value["counted"])
        return Wanted(
            [
                {"window_start": s, "window_end": s + 20, "windows": len(c), "counted": sum(c)}
                for s, c in spans.items()
                if s + 20 <= least
            ]
        )

    return Branch("outer", declare, wanted, timed=True)


def window_table() -> Branch:
    """Windows as they are, from their first row on."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        window = streams["rows"].filter("shop is not null").window(sc.tumbling("10ms")).by("shop")
        return window.table(counted="count(*)", total="sum(n)", name="wtable")

    def wanted(judged: Judged) -> Wanted:
        rows = [row for row in _rows(judged) if row.document["shop"] is not None]
        found = _tumbled(oracle.timely(judged, rows, "wtable"))
        return Wanted([_windowed(*one) for one in found.items()], key=("shop", "window_start"))

    return Branch("wtable", declare, wanted, timed=True)


# ---------------------------------------------------------------- tables


def table() -> Branch:
    def declare(streams: Mapping[str, Stream]) -> Stream:
        grouped = streams["rows"].filter("shop is not null").by("shop")
        return grouped.aggregate(counted="count(*)", total="sum(n)", name="table")

    def wanted(judged: Judged) -> Wanted:
        rows = [row for row in _rows(judged) if row.document["shop"] is not None]
        found = oracle.grouped(rows, "shop", _sums)
        return Wanted([{"shop": shop, **sums} for shop, sums in found.items()], key=("shop",))

    return Branch("table", declare, wanted)


def changelog() -> Branch:
    """A table's updates as rows: the last one of each key counts."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        return streams["rows"].by("key").aggregate(total="sum(n)", name="keys").changelog()

    def wanted(judged: Judged) -> Wanted:
        found = oracle.grouped(_rows(judged), "key", _sums)
        return Wanted([{"key": key, "total": sums["total"]} for key, sums in found.items()], key=("key",))

    return Branch("changelog", declare, wanted)


def top() -> Branch:
    def declare(streams: Mapping[str, Stream]) -> Stream:
        dear = streams["rows"].filter("shop is not null").select("shop", "n", "id")
        return dear.by("shop").top(2, order="n desc, id", rank="rank", name="top")

    def wanted(judged: Judged) -> Wanted:
        found = []
        for shop in sorted({row.document["shop"] for row in _rows(judged)} - {None}):
            rows = [row.document for row in _rows(judged) if row.document["shop"] == shop]
            rows.sort(key=lambda row: (-row["n"], row["id"]))
            found += [
                {"shop": shop, "n": row["n"], "id": row["id"], "rank": rank}
                for rank, row in enumerate(rows[:2], start=1)
            ]
        return Wanted(found, key=("shop", "rank"))

    return Branch("top", declare, wanted)


def table_of_table() -> Branch:
    """Each key counts in the band of its newest total only."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        keys = streams["rows"].by("key").aggregate(total="sum(n)", name="totals")
        banded = keys.add_column("band", "case when total < 200 then 'low' else 'high' end")
        return banded.by("band").aggregate(members="count(*)", total="sum(total)", name="bands")

    def wanted(judged: Judged) -> Wanted:
        totals = [sums["total"] for sums in oracle.grouped(_rows(judged), "key", _sums).values()]
        bands: dict[str, list[int]] = {}
        for total in totals:
            bands.setdefault("low" if total < 200 else "high", []).append(total)
        rows = [{"band": band, "members": len(t), "total": sum(t)} for band, t in bands.items()]
        return Wanted(rows, key=("band",))

    return Branch("bands", declare, wanted)


def first() -> Branch:
    """The first row of each key; all rows of a key are in one partition."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        return streams["rows"].by("key").first(name="first")

    def wanted(judged: Judged) -> Wanted:
        found: dict[object, Document] = {}
        for row in _rows(judged):
            found.setdefault(row.document["key"], row.document)
        return Wanted(list(found.values()))

    return Branch("first", declare, wanted)


# ---------------------------------------------------------------- joins


def join(*, outer: bool) -> Branch:
    name = "outer-join" if outer else "join"

    def declare(streams: Mapping[str, Stream]) -> Stream:
        rows, how = streams["rows"], "left" if outer else "inner"
        if outer:  # whether what closes its partition waits for others depends on the clock
            rows = rows.filter("id not like 'close%'")
        left = rows.select("id", "key", "at")
        return left.join(streams["others"], on="key", within=("-4ms", "6ms"), how=how, name=name)

    def wanted(judged: Judged) -> Wanted:
        left = oracle.timely(judged, _rows(judged), name)
        right = oracle.timely(judged, judged.of("others"), name)
        found, alone = oracle.pairs(left, right, -4, 6)
        rows = [{**_side(a), "oid": b.document["oid"], "oat": b.time, "m": b.document["m"]} for a, b in found]
        if outer:
            over = [a for a in alone if not str(a.document["id"]).startswith("close")]
            rows += [{**_side(a), "oid": None, "oat": None, "m": None} for a in over]
        return Wanted(rows)

    return Branch(name, declare, wanted, joins=True, timed=True)


def _side(row: Row) -> Document:
    return {name: row.document[name] for name in ("id", "key", "at")}


# ---------------------------------------------------------------- topologies


BRANCHES: dict[str, Callable[[], Branch]] = {
    "passing": passing,
    "whole": whole,
    "late": late,
    "tumbling": tumbling,
    "hopping": hopping,
    "session": session,
    "outer": windows_of_windows,
    "wtable": window_table,
    "table": table,
    "changelog": changelog,
    "top": top,
    "bands": table_of_table,
    "first": first,
    "join": lambda: join(outer=False),
    "outer-join": lambda: join(outer=True),
}


def chosen(dice: random.Random) -> list[Branch]:
    """The branches of a seed's topology: one that keeps state, and often others beside it."""
    stateful = [name for name in BRANCHES if name not in ("passing", "whole", "late")]
    names = [dice.choice(stateful)] if dice.random() < 0.9 else []
    if not names or dice.random() < 0.5:
        names.append(dice.choice(["passing", "whole", "whole"]))
    if dice.random() < 0.2:
        names.append(dice.choice(stateful))
    branches = [BRANCHES[name]() for name in dict.fromkeys(names)]
    if any(branch.timed for branch in branches) and dice.random() < 0.3:
        branches.append(late())
    return branches


def built(
    branches: Sequence[Branch], sink: Callable[[Branch, int], Sequence[Sink]], *, idle_after: str
) -> sc.Topology:
    """The topology of *branches*; *sink* makes the sinks of each."""
    topology = sc.Topology("sim")
    time = {"max_lateness": f"{LATENESS}ms", "idle_after": idle_after}
    rows = topology.stream("rows", RowEvent, event_time="at", **time)  # type: ignore[arg-type]
    streams = {"rows": rows.validate(sc.rules.range("n", max=MOST), name="limit")}
    if any(branch.joins for branch in branches):
        streams["others"] = topology.stream("others", OtherEvent, event_time="oat", **time)  # type: ignore[arg-type]
    for number, branch in enumerate(branches):
        stream = branch.declare(streams)
        for one in sink(branch, number):
            stream.to(one)
    return topology


def shown(branches: Sequence[Branch], feed: Feed) -> str:
    """A few words on a run."""
    sizes = {stream: [len(p) for p in parts] for stream, parts in feed.partitions.items()}
    kinds = dict(Counter(sink.partition("-")[0] for branch in branches for sink in branch.sinks))
    return (
        f"{'+'.join(b.name for b in branches)} to {kinds}, rows {sizes}, {'ends' if feed.ended else 'live'}"
    )
