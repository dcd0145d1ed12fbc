"""The rows of a fault run: made from a seed, a share of them poison, each written down before it is sent."""

from __future__ import annotations

import random
from typing import NamedTuple

import orjson

from tests.faults.journal import Row, digest_of

PARTITIONS = 3
KEYS = 12
CANARY = "canary-5e1f"
"""A text in every row, which no output of a worker may show."""
REFUSED_BY_FILES = "__HIVE_DEFAULT_PARTITION__"
REFUSED_BY_A_CHECK = 13
"""This ``n`` is refused by a check of the table, the collection or the server."""
_BY_FILES, _BY_A_CHECK = ("files", "s3"), ("postgres", "mysql", "sqlite", "mongodb", "http")


class Made(NamedTuple):
    """A row and its bytes."""

    row: Row
    value: bytes


class Maker:
    """Makes rows. Of a thousand, ten are no JSON, ten break a rule and *sink*, if it can, refuses two.

    *padding*: bytes that a row is longer.
    """

    def __init__(self, dice: random.Random, sink: str, padding: int = 0) -> None:
        self._dice, self._sink, self._padding = dice, sink, padding
        self._sequences = [0] * KEYS
        self._count = 0

    def make(self, count: int) -> list[Made]:
        """The next *count* rows."""
        return [self._one() for _ in range(count)]

    def _one(self) -> Made:
        key = self._dice.randrange(KEYS)
        self._sequences[key] += 1
        self._count += 1
        document: dict[str, object] = {
            "id": f"r{self._count}",
            "key": f"k{key}",
            "sequence": self._sequences[key],
            "n": self._dice.randrange(100, 1000),
            "bucket": f"b{key % 2}",
            "note": CANARY + self._dice.randbytes(self._padding // 2).hex(),
        }
        luck = self._dice.random()
        fate, value = "effect", b""
        if luck < 0.01:
            fate, value = "dead", orjson.dumps(document)[:-1]
        elif luck < 0.02:
            fate, document["n"] = "dead", -1
        elif luck < 0.022 and self._sink in _BY_FILES:
            fate, document["bucket"] = "dead", REFUSED_BY_FILES
        elif luck < 0.022 and self._sink in _BY_A_CHECK:
            fate, document["n"] = "dead", REFUSED_BY_A_CHECK
        value = value or orjson.dumps(document)
        row = Row(f"r{self._count}", f"k{key}", self._sequences[key], fate, digest_of(value))
        return Made(row, value)
