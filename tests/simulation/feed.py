"""The rows of a run: what the sources hold, in the order in which they hold it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

BASE = 1_000_000
"""Event time, in milliseconds, at which the streams begin."""
LATENESS = 10
"""Milliseconds: max_lateness of all streams."""
SHOPS = ("a", "b", "c|d", None)
FUTURE = 3 * 86_400_000
CLOSING = 100_000
"""Milliseconds behind the last row: what closes all windows."""


class Record(NamedTuple):
    """A record of a source: ``at`` seconds after the start it is appended; its value, and its time stamp."""

    at: float
    value: bytes
    stamp: int


@dataclass
class Feed:
    """``partitions``: for each stream its partitions, in order. ``markers``: places without a record."""

    partitions: dict[str, list[list[Record]]] = field(default_factory=dict)
    markers: dict[tuple[str, int], frozenset[int]] = field(default_factory=dict)
    ended: bool = False
    """Nothing follows: all windows close."""


class _Maker:
    def __init__(self, dice: random.Random, stream: str) -> None:
        self._dice, self._stream, self._count = dice, stream, 0
        self.poison = dice.choice([0.0, 0.04, 0.04, 0.4])
        self.late = dice.choice([0.0, 0.06, 0.2])
        self.odd = dice.choice([0.0, 0.03])

    def record(self, at: float, clock: int, partition: int) -> Record:
        """One row at about *clock* of event time."""
        dice = self._dice
        self._count += 1
        document: dict[str, object] = {
            "id": f"{self._stream}{partition}-{self._count}",
            "key": f"k{partition}{dice.randrange(3)}",
            "shop": dice.choice(SHOPS),
            "at": clock - (0 if dice.random() < 0.5 else dice.randrange(LATENESS + 1)),
            "n": dice.choice([13, 1, 2, 50, 50, 99, 100]),
        }
        if dice.random() < self.late:
            document["at"] = clock - LATENESS - dice.choice([-1, 0, 1, 2, 15, 40])
        if dice.random() < self.odd:
            document["at"] = dice.choice([None, clock + FUTURE])
        value = orjson.dumps(self._renamed(document))
        if dice.random() < self.poison:
            bad = [{**document, "n": -1}, {**document, "n": 5_000}]
            value = dice.choice([value[:-1], b"[]", *(orjson.dumps(self._renamed(d)) for d in bad)])
        return Record(at, value, clock)

    def last(self, at: float, clock: int, partition: int) -> Record:
        """A row that closes what came before it in its partition."""
        name = f"close-{self._stream}{partition}"
        document = {"id": name, "key": name, "shop": name, "at": clock + CLOSING, "n": 50}
        return Record(at, orjson.dumps(self._renamed(document)), clock)

    def _renamed(self, document: dict[str, object]) -> dict[str, object]:
        if self._stream == "rows":
            return document
        return {"oid": document["id"], "key": document["key"], "oat": document["at"], "m": document["n"]}


def feed_of(dice: random.Random, streams: list[str], *, bounded: bool, quiet: bool) -> Feed:
    """Rows out of order, late, twice, broken, too high, without a time, from the future; uneven partitions.

    *quiet*: one partition has no rows at all, and windows do not wait for it.
    """
    feed = Feed(ended=bounded)
    catch_up = dice.random() < 0.4
    silent = dice.randrange(2) if quiet else -1
    for stream in streams:
        maker, count = _Maker(dice, stream), 2 if quiet else dice.choice([1, 2, 2, 3])
        partitions = []
        for number in range(count):
            rows = 0 if number == silent else dice.choice([3, 6, 10, 16])
            pace = dice.choice([1, 1, 3])
            partitions.append(
                _partition(dice, maker, number, rows, pace, catch_up=catch_up, closed=not bounded)
            )
            if dice.random() < 0.3:
                feed.markers[stream, number] = frozenset(
                    place for place in range(len(partitions[-1]) - 1) if dice.random() < 0.15
                )
        feed.partitions[stream] = partitions
    return feed


def _partition(
    dice: random.Random, maker: _Maker, number: int, rows: int, pace: int, *, catch_up: bool, closed: bool
) -> list[Record]:
    if not rows:
        return []
    clock, at, records = BASE + dice.randrange(20), 0.0, list[Record]()
    for _ in range(rows):
        clock += dice.choice([0, pace, pace, 2 * pace])
        at += 0.0 if catch_up else dice.choice([0.0, 0.05, 0.1, 0.4])
        records.append(maker.record(at, clock, number))
        if dice.random() < 0.04:
            records.append(records[dice.randrange(len(records))]._replace(at=at))
    if closed:
        records.append(maker.last(at, clock, number))
    return records
