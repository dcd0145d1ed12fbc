"""Branches of the simulation with joins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import polars as pl

from streamcore.stream import Stream
from tests.simulation import oracle
from tests.simulation.branch import Branch, Wanted, rows_of, sums
from tests.simulation.oracle import Document, Judged, Row


def join(how: Literal["inner", "left", "right", "full"]) -> Branch:
    """Pairs whose times are near each other, and what is alone."""
    name = {"inner": "join", "left": "outer-join"}.get(how, f"{how}-join")

    def declare(streams: Mapping[str, Stream]) -> Stream:
        rows, others = streams["rows"], streams["others"]
        if how in ("left", "full"):  # whether what closes its partition waits for others depends on the clock
            rows = rows.filter("id not like 'close%'")
        if how in ("right", "full"):
            others = others.filter("oid not like 'close%'")
        left = rows.select("id", "key", "at")
        return left.join(others, on="key", within=("-4ms", "6ms"), how=how, name=name)

    def wanted(judged: Judged) -> Wanted:
        left = oracle.timely(judged, rows_of(judged), name)
        right = oracle.timely(judged, judged.of("others"), name)
        found, alone = oracle.pairs(left, right, -4, 6)
        rows = [_pair(a, b) for a, b in found]
        if how in ("left", "full"):
            rows += [_pair(a, None) for a in alone if not _closes(a)]
        if how in ("right", "full"):
            _, alone = oracle.pairs(right, left, -6, 4)
            rows += [_pair(None, b) for b in alone if not _closes(b)]
        return Wanted(rows)

    return Branch(name, declare, wanted, joins=True, timed=True)


def as_of() -> Branch:
    """Each row with the newest one of the others that is not newer."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        rows = streams["rows"].filter("id not like 'close%'")  # as in joins: depends on the clock
        left = rows.select("id", "key", "at")
        return left.join(streams["others"], on="key", as_of=True, how="left", name="as-of")

    def wanted(judged: Judged) -> Wanted:
        left = oracle.timely(judged, rows_of(judged), "as-of")
        right = oracle.timely(judged, judged.of("others"), "as-of")
        passed = min(judged.watermarks.values())
        passed_by = [a for a in left if (a.time or 0) < passed and not _closes(a)]
        return Wanted([_pair(a, oracle.newest(a, right)) for a in passed_by])

    return Branch("as-of", declare, wanted, joins=True, timed=True)


def tables() -> Branch:
    """Two tables by one key: what either has."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        left = streams["rows"].by("key").aggregate(total="sum(n)", name="ours")
        right = streams["others"].by("key").aggregate(most="sum(m)", name="theirs")
        return left.join(right, on="key", how="full", name="both")

    def wanted(judged: Judged) -> Wanted:
        ours = oracle.grouped(rows_of(judged), "key", sums)
        theirs = _sums_of_others(judged, lambda row: row["key"])
        rows = [
            {"key": key, "total": ours[key]["total"] if key in ours else None, "most": theirs.get(key)}
            for key in {*ours, *theirs}
        ]
        return Wanted(rows, key=("key",))

    return Branch("table-join", declare, wanted, joins=True, key=("key",))


def foreign() -> Branch:
    """Each key of a table with the row of another one that its total leads to, which changes."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        keys = streams["rows"].by("key").aggregate(total="sum(n)", name="orders")
        orders = keys.add_column("band", "case when total < 100 then 'low' else 'high' end")
        others = streams["others"].add_column("band", "case when m < 50 then 'low' else 'high' end")
        return orders.join(others.by("band").aggregate(most="sum(m)", name="marks"), on="band", how="left")

    def wanted(judged: Judged) -> Wanted:
        marks, rows = _sums_of_others(judged, lambda row: _band(row["m"], 50)), []
        for key, both in oracle.grouped(rows_of(judged), "key", sums).items():
            band = _band(both["total"], 100)
            rows.append({"key": key, "total": both["total"], "band": band, "most": marks.get(band)})
        return Wanted(rows, key=("key",))

    return Branch("foreign", declare, wanted, joins=True, key=("key",))


def _band(value: int, least: int) -> str:
    return "low" if value < least else "high"


def _sums_of_others(judged: Judged, by: Callable[[Document], str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in judged.of("others"):
        found[by(row.document)] += row.document["m"]
    return found


def _closes(row: Row) -> bool:
    return str(row.document["id" if row.stream == "rows" else "oid"]).startswith("close")


def _pair(a: Row | None, b: Row | None) -> Document:
    left = {"id": None, "at": None} if a is None else {name: a.document[name] for name in ("id", "at")}
    right = {name: None if b is None else b.document[name] for name in ("oid", "oat", "m")}
    one = a or b
    assert one is not None
    return {**left, **right, "key": one.document["key"]}


def looked_up() -> Branch:
    """Each row with what a table of reference says of its shop."""
    frame = pl.DataFrame({"shop": ["a", "c|d"], "city": ["Ulm", "Bonn"]})

    def declare(streams: Mapping[str, Stream]) -> Stream:
        return streams["rows"].lookup(frame, on="shop").select("id", "shop", "n", "city")

    def wanted(judged: Judged) -> Wanted:
        cities = {"a": "Ulm", "c|d": "Bonn"}
        found = [row.document for row in rows_of(judged)]
        names = ("id", "shop", "n")
        return Wanted([{**{k: row[k] for k in names}, "city": cities.get(row["shop"])} for row in found])

    return Branch("looked-up", declare, wanted)
