"""Branches of the simulation with windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamcore as sc
from streamcore.stream import Stream
from streamcore.windows.assigners import Aligned, Session
from tests.simulation import oracle
from tests.simulation.branch import Branch, Wanted, rows_of, sums
from tests.simulation.oracle import Document, Judged, Row

Found = Callable[[list[Row]], dict[tuple[object, int, int], Document]]
"""Windows by (shop, start, end), of rows."""


def _window(name: str, kind: Aligned | Session, found: Found, *, patience: int = 0) -> Branch:
    def declare(streams: Mapping[str, Stream]) -> Stream:
        window = streams["rows"].window(kind).by("shop")
        return window.aggregate(counted="count(*)", total="sum(n)", name=name)

    def wanted(judged: Judged) -> Wanted:
        least = judged.watermarks["rows"]
        windows = found(oracle.timely(judged, rows_of(judged), name))
        closed = {key: value for key, value in windows.items() if key[2] + patience <= least}
        return Wanted([_windowed(key, value) for key, value in closed.items()])

    return Branch(name, declare, wanted, timed=True)


def _windowed(key: tuple[object, int, int], value: Document) -> Document:
    shop, start, end = key
    return {"shop": shop, "window_start": start, "window_end": end, **value}


def tumbling() -> Branch:
    return _window("tumbling", sc.tumbling("10ms"), _tumbled)


def _tumbled(rows: list[Row]) -> dict[tuple[object, int, int], Document]:
    return oracle.windows(rows, lambda at: [at // 10 * 10], 10, sums)


def hopping() -> Branch:
    def starts(at: int) -> list[int]:
        return [start for start in range(at // 4 * 4, at - 10, -4) if start + 10 > at]

    return _window(
        "hopping", sc.hopping("10ms", every="4ms"), lambda rows: oracle.windows(rows, starts, 10, sums)
    )


def session() -> Branch:
    """A session ends when time is past its last row by more than the gap."""
    return _window("session", sc.session("5ms"), _sessions, patience=1)


def _sessions(rows: list[Row]) -> dict[tuple[object, int, int], Document]:
    return oracle.sessions(rows, 5, sums)


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
        inner = _tumbled(oracle.timely(judged, rows_of(judged), "inner"))
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
    return _table("wtable", sc.tumbling("10ms"), _tumbled)


def session_table() -> Branch:
    """Sessions as they are: rows in between make two of them one."""
    return _table("stable", sc.session("5ms"), _sessions)


def _table(name: str, kind: Aligned | Session, found: Found) -> Branch:
    key = ("shop", "window_start")

    def declare(streams: Mapping[str, Stream]) -> Stream:
        window = streams["rows"].filter("shop is not null").window(kind).by("shop")
        return window.table(counted="count(*)", total="sum(n)", name=name)

    def wanted(judged: Judged) -> Wanted:
        rows = [row for row in rows_of(judged) if row.document["shop"] is not None]
        windows = found(oracle.timely(judged, rows, name))
        return Wanted([_windowed(*one) for one in windows.items()], key=key)

    return Branch(name, declare, wanted, timed=True, key=key)


def sliding() -> Branch:
    """Each row with the aggregates of the time before it."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        window = streams["rows"].window(sc.sliding("10ms")).by("shop")
        return window.aggregate(counted="count(*)", total="sum(n)", name="sliding")

    def wanted(judged: Judged) -> Wanted:
        rows, found = oracle.timely(judged, rows_of(judged), "sliding"), []
        for row in rows:
            time, shop = row.time or 0, row.document["shop"]
            near = [one for one in rows if one.document["shop"] == shop and 0 <= time - (one.time or 0) < 10]
            if time < judged.watermarks["rows"]:
                found.append({**row.document, **sums([one.document for one in near])})
        return Wanted(found)

    return Branch("sliding", declare, wanted, timed=True)


def counted() -> Branch:
    """Each three rows of a key; all rows of a key are in one partition."""

    def declare(streams: Mapping[str, Stream]) -> Stream:
        window = streams["rows"].window(sc.counted(3)).by("key")
        return window.aggregate(counted="count(*)", total="sum(n)", name="counted")

    def wanted(judged: Judged) -> Wanted:
        by_key: dict[object, list[Document]] = {}
        for row in rows_of(judged):
            by_key.setdefault(row.document["key"], []).append(row.document)
        found = []
        for key, rows in by_key.items():
            for number, start in enumerate(range(0, len(rows), 3)):
                few = rows[start : start + 3]
                if len(few) == 3 or judged.watermarks["rows"] == oracle.NEVER:
                    found.append({"key": key, "window_number": number, **sums(few)})
        return Wanted(found)

    return Branch("counted", declare, wanted)
