"""The rows of fault runs with windows: their times run faster than the clock, and some are late or wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

import orjson

from tests.faults.journal import Row, digest_of
from tests.faults.rows import CANARY, KEYS, PARTITIONS, Made
from tests.faults.window_oracle import LATENESS, Fed

PACE = 5
"""Milliseconds of event time from row to row. At 800 rows a second, 4 seconds pass in one."""
SHOPS = (*(f"s{n}" for n in range(9)), None)
_HOUR = 3_600_000
_FIRST = 200
"""So many rows are on time, so that each partition has a time behind which others are late."""


class WindowMaker:
    """Makes rows whose key says the partition and whose shop, another column, the window.

    Of a thousand, 30 are dead letters, none of which moves the time on: 10 are no JSON, 10 have a negative
    number, 5 break a rule, 3 have no time and 2 one in the *future* (on Kafka). 20 are late, 20 may be, by
    a few milliseconds: in the order of the log it is one or the other.
    """

    def __init__(self, dice: random.Random, *, future: bool) -> None:
        self._dice, self._future = dice, future
        self._clock = int(time.time() * 1000) - _HOUR
        self._count = 0
        self.punctual: dict[str, Fed] = {}
        """The rows that are in a window for sure, by their ids."""

    def make(self, count: int) -> list[Made]:
        """The next *count* rows."""
        return [self._one() for _ in range(count)]

    def last(self) -> list[Made]:
        """A row for each partition, half a day ahead: they close all windows of the rows before them."""
        at = int(time.time() * 1000) + 12 * _HOUR
        return [self._made({"at": at, "n": 100}, "effect") for _ in range(PARTITIONS)]

    def _one(self) -> Made:
        self._clock += PACE
        dice, luck = self._dice, self._dice.random() if self._count >= _FIRST else 1.0
        document: dict[str, object] = {"n": dice.randrange(100, 1000), "at": self._clock - LATENESS}
        if luck < 0.01:
            return self._made(document, "dead", cut=1)
        if luck < 0.02:
            return self._made({**document, "n": -1}, "dead")
        if luck < 0.025:
            return self._made({**document, "n": 100_001}, "dead")
        if luck < 0.028 or (luck < 0.03 and not self._future):
            return self._made({**document, "at": None}, "dead")
        if luck < 0.03:
            return self._made({**document, "at": int(time.time() * 1000) + 72 * _HOUR}, "dead")
        if luck < 0.05:
            return self._made(
                {**document, "at": self._clock - LATENESS - dice.randrange(30_000, 90_000)}, "late"
            )
        if luck < 0.07:
            return self._made({**document, "at": self._clock - LATENESS - dice.randrange(200)}, "")
        behind = 0 if dice.random() < 0.5 else dice.randrange(LATENESS + 1)
        return self._made({**document, "at": self._clock - behind}, "effect")

    def _made(self, document: Mapping[str, object], fate: str, cut: int = 0) -> Made:
        self._count += 1
        name, key = f"r{self._count}", f"k{self._dice.randrange(KEYS)}"
        whole = {"id": name, "key": key, "shop": self._dice.choice(SHOPS), "note": CANARY, **document}
        value = orjson.dumps(whole)
        value = value[: len(value) - cut]
        if fate == "effect":
            self.punctual[name] = Fed.of(value)
        return Made(Row(name, key, self._count, fate, digest_of(value)), value)
