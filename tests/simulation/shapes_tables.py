"""Branches of the simulation with stateless steps and with tables."""

from __future__ import annotations

from collections.abc import Mapping

import streamcore as sc
from streamcore.stream import Stream
from tests.simulation import oracle
from tests.simulation.branch import Branch, Wanted, rows_of, sums
from tests.simulation.oracle import Document, Judged, Letter


def passing() -> Branch:
    """Stateless steps."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        dear = streams["rows"].filter("n >= 50")
        return dear.add_column("band", "case when n < 100 then 'low' else 'high' end")

    def wanted(judged: Judged) -> Wanted:
        found = [row.document for row in rows_of(judged) if row.document["n"] >= 50]
        return Wanted([{**row, "band": "low" if row["n"] < 100 else "high"} for row in found])

    return Branch("passing", declare, wanted)


def whole() -> Branch:
    """All rows, some of which the database refuses."""

    def wanted(judged: Judged) -> Wanted:
        return Wanted([row.document for row in rows_of(judged)], by_position=True)

    return Branch("whole", lambda streams: streams["rows"], wanted)


def late() -> Branch:
    """The rows that come too late for a window, and the window."""

    def wanted(judged: Judged) -> Wanted:
        return Wanted([row.document for row in rows_of(judged) if row.late])

    return Branch("late", lambda streams: streams["rows"].late(name="late"), wanted)


def table() -> Branch:
    def declare(streams: Mapping[str, Stream]) -> Stream:
        grouped = streams["rows"].filter("shop is not null").by("shop")
        return grouped.aggregate(counted="count(*)", total="sum(n)", name="table")

    def wanted(judged: Judged) -> Wanted:
        rows = [row for row in rows_of(judged) if row.document["shop"] is not None]
        found = oracle.grouped(rows, "shop", sums)
        return Wanted([{"shop": shop, **both} for shop, both in found.items()], key=("shop",))

    return Branch("table", declare, wanted, key=("shop",))


def changelog() -> Branch:
    """A table's updates as rows: the last one of each key counts."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        return streams["rows"].by("key").aggregate(total="sum(n)", name="keys").changelog()

    def wanted(judged: Judged) -> Wanted:
        found = oracle.grouped(rows_of(judged), "key", sums)
        rows = [{"key": key, "total": both["total"]} for key, both in found.items()]
        return Wanted(rows, key=("key",), changes="updates")

    return Branch("changelog", declare, wanted)


def retractions() -> Branch:
    """A table's changes with what they take back: what they add up to is the table."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        table = streams["rows"].by("key").aggregate(total="sum(n)", name="retracted")
        return table.changelog(before=True, name="retractions")

    def wanted(judged: Judged) -> Wanted:
        found = oracle.grouped(rows_of(judged), "key", sums)
        rows = [{"key": key, "total": both["total"]} for key, both in found.items()]
        return Wanted(rows, changes="taken back")

    return Branch("retractions", declare, wanted)


def only_first() -> Branch:
    """The rule ``unique``: the first row of each key passes, the others are dead letters."""
    dead = "only/duplicates"

    def declare(streams: Mapping[str, Stream]) -> Stream:
        return streams["rows"].validate(sc.rules.unique("key"), name="only")

    def wanted(judged: Judged) -> Wanted:
        found: dict[object, Document] = {}
        for row in rows_of(judged):
            if row.future:
                judged.letters.add(Letter("only/unique", row.stream, row.partition, row.offset))
            elif found.setdefault(row.document["key"], row.document) is not row.document:
                judged.counted[dead] = judged.counted.get(dead, 0) + 1
        return Wanted(list(found.values()))

    return Branch("unique", declare, wanted)


def top() -> Branch:
    def declare(streams: Mapping[str, Stream]) -> Stream:
        dear = streams["rows"].filter("shop is not null").select("shop", "n", "id")
        return dear.by("shop").top(2, order="n desc, id", rank="rank", name="top")

    def wanted(judged: Judged) -> Wanted:
        found = []
        for shop in sorted({row.document["shop"] for row in rows_of(judged)} - {None}):
            rows = [row.document for row in rows_of(judged) if row.document["shop"] == shop]
            rows.sort(key=lambda row: (-row["n"], row["id"]))
            found += [
                {"shop": shop, "n": row["n"], "id": row["id"], "rank": rank}
                for rank, row in enumerate(rows[:2], start=1)
            ]
        return Wanted(found, key=("shop", "rank"))

    return Branch("top", declare, wanted, key=("shop", "rank"))


def table_of_table() -> Branch:
    """Each key counts in the band of its newest total only."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        keys = streams["rows"].by("key").aggregate(total="sum(n)", name="totals")
        banded = keys.add_column("band", "case when total < 200 then 'low' else 'high' end")
        return banded.by("band").aggregate(members="count(*)", total="sum(total)", name="bands")

    def wanted(judged: Judged) -> Wanted:
        totals = [both["total"] for both in oracle.grouped(rows_of(judged), "key", sums).values()]
        bands: dict[str, list[int]] = {}
        for total in totals:
            bands.setdefault("low" if total < 200 else "high", []).append(total)
        rows = [{"band": band, "members": len(t), "total": sum(t)} for band, t in bands.items()]
        return Wanted(rows, key=("band",))

    return Branch("bands", declare, wanted, key=("band",))


def first() -> Branch:
    """The first row of each key; all rows of a key are in one partition."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        return streams["rows"].by("key").first(name="first")

    def wanted(judged: Judged) -> Wanted:
        found: dict[object, Document] = {}
        for row in rows_of(judged):
            found.setdefault(row.document["key"], row.document)
        return Wanted(list(found.values()))

    return Branch("first", declare, wanted)
