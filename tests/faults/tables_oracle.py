"""What must come of the rows of a fault run in tables, joins and lookups, from the log, in plain Python."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.faults.journal import Row, difference, digest_of
from tests.faults.rows import CANARY, KEYS, Made

SHOPS, DEALS, WITHIN = 9, 400, 5_000
PACE = 5
"""Milliseconds of event time from row to row."""
LABELS = {f"d{n}": f"label {n}" for n in range(0, DEALS, 2)}
"""Each second deal has one."""
COLUMNS = {
    "totals": ("shop", "counted", "total"),
    "thirds": ("shop", "counted", "total"),
    "pairs": ("order_id", "payment_id"),
    "priced": ("order_id", "version"),
    "found": ("id", "label"),
}
TABLES = ("totals", "thirds")
There = Mapping[str, Sequence[tuple[Any, ...]]]
"""The rows of each sink, in the order of COLUMNS; of a table the newest of each key."""
_KINDS = ("order", "order", "order", "order", "order", "payment", "payment", "payment", "payment", "price")


class TablesMaker:
    """Makes rows; of a thousand, ten are no JSON, ten have a negative number. Prices have rising ones."""

    def __init__(self, dice: random.Random) -> None:
        self._dice, self._count = dice, 0
        self._clock = int(time.time() * 1000) - 600_000
        self._versions = [0] * KEYS
        self.effects: dict[str, dict[str, Any]] = {}
        """The rows that are no dead letters, by their ids."""

    def make(self, count: int) -> list[Made]:
        """The next *count* rows."""
        return [self._one() for _ in range(count)]

    def _one(self) -> Made:
        self._count += 1
        self._clock += PACE
        dice, name = self._dice, f"r{self._count}"
        key, kind = dice.randrange(KEYS), dice.choice(_KINDS)
        self._versions[key] += kind == "price"
        luck = dice.random()
        number = self._versions[key] if kind == "price" else dice.randrange(100, 1000)
        document: dict[str, Any] = {
            "id": name,
            "key": f"k{key}",
            "kind": kind,
            "shop": f"s{dice.randrange(SHOPS)}",
            "deal": f"d{dice.randrange(DEALS)}",
            "at": self._clock - dice.randrange(3_000),
            "n": -1 if luck < 0.01 else number,
            "note": CANARY,
        }
        value = orjson.dumps(document)
        value = value[:-1] if 0.01 <= luck < 0.02 else value
        if luck >= 0.02:
            self.effects[name] = document
        fate = "effect" if luck >= 0.02 else "dead"
        return Made(Row(name, f"k{key}", self._count, fate, digest_of(value)), value)


@dataclass
class Wanted:
    """What must be there: (rows, sum) of each shop, pairs, labels; of each order its key and partition."""

    totals: dict[str, tuple[int, int]] = field(default_factory=dict)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    labels: dict[str, str | None] = field(default_factory=dict)
    orders: dict[str, tuple[int, str]] = field(default_factory=dict)
    versions: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def broken(self, there: There, *, whole: bool = True) -> list[str]:
        """The promises that *there* breaks; unless it is the *whole*, more may come."""
        told = [
            _differ("pairs", self.pairs, there["pairs"], whole=whole),
            _differ("orders", self.orders, [order for order, _ in there["priced"]], whole=whole),
            difference("lookups", self.labels, there["found"], whole=whole),
            self._priced(dict(there["priced"])),
        ]
        if whole:
            thirds = {shop: value for shop, value in self.totals.items() if value[1] % 3}
            for name, wanted in (("totals", self.totals), ("thirds", thirds)):
                told.append(difference(name, wanted, [(shop, (n, sum_)) for shop, n, sum_ in there[name]]))
        else:
            beyond = [r for name in TABLES for r in there[name] if r[1] > self.totals.get(r[0], (0, 0))[0]]
            told.append(f"a table counted more than there is (e.g. {beyond[0]})" if beyond else "")
        return [text for text in told if text]

    def _priced(self, priced: Mapping[str, int | None]) -> str:
        """An order finds a row of its key that there is, and never an older one than the order before it.

        That holds for the orders of one key in one partition: both go the same way. Which of the rows it
        is depends on how long the table's own log takes.
        """
        newest: dict[tuple[int, str], int] = defaultdict(int)
        wrong = []
        for order, place in self.orders.items():
            if order not in priced:
                continue
            version = priced[order] or 0
            if version < newest[place] or (version and version not in self.versions[place[1]]):
                wrong.append((order, place, version, newest[place]))
            newest[place] = max(newest[place], version)
        return f"{len(wrong)} orders found an older row or none (e.g. {wrong[0]})" if wrong else ""


def _differ(what: str, wanted: Iterable[Hashable], found: Iterable[Hashable], *, whole: bool) -> str:
    return difference(what, dict.fromkeys(wanted), [(row, None) for row in found], whole=whole)


def wanted_of(partitions: Mapping[int, Sequence[Mapping[str, Any]]]) -> Wanted:
    """What must come out of the rows of *partitions*, each in the order of its log."""
    wanted = Wanted()
    orders, payments = defaultdict[str, list[Mapping[str, Any]]](list), list[Mapping[str, Any]]()
    for number, rows in partitions.items():
        for row in rows:
            counted, total = wanted.totals.get(row["shop"], (0, 0))
            wanted.totals[row["shop"]] = counted + 1, total + row["n"]
            wanted.labels[row["id"]] = LABELS.get(row["deal"])
            if row["kind"] == "order":
                wanted.orders[row["id"]] = number, row["key"]
                orders[row["deal"]].append(row)
            elif row["kind"] == "payment":
                payments.append(row)
            else:
                wanted.versions[row["key"]].add(row["n"])
    for payment in payments:
        for order in orders[payment["deal"]]:
            if 0 <= payment["at"] - order["at"] <= WITHIN:
                wanted.pairs.add((order["id"], payment["id"]))
    return wanted
