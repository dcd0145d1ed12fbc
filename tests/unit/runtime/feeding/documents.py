"""A bounded source of JSON documents in memory, and a topology that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

import streamcore as sc
from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.contracts import Split, SplitReader
from tests.unit.topology.collecting import Collect

GAP = 3
"""Positions are not dense."""


class Person(sc.Event):
    id: int
    name: str | None = None


def topology(key: str | tuple[str, ...] = "id", format: str = "json") -> sc.Topology:
    made = sc.Topology("people")
    made.stream("people", Person, key=key, format=format).to(Collect("out"))
    return made


@dataclass(frozen=True)
class Documents:
    """*documents* cut into *splits* and read *per_chunk* at a time."""

    documents: tuple[bytes, ...]
    parts: int = 1
    per_chunk: int = 5
    uri = "memory:documents"

    def fingerprint(self) -> str:
        return str(hash(self.documents))

    def columns(self) -> pl.Schema | None:
        return None

    def splits(self, wanted: int) -> Sequence[Split]:
        return [_Part(self.documents[n :: self.parts], self.per_chunk, n) for n in range(self.parts)]


@dataclass(frozen=True)
class _Part:
    documents: tuple[bytes, ...]
    per_chunk: int
    number: int
    bookmark = b""

    @property
    def name(self) -> str:
        return f"part {self.number}"

    @property
    def size(self) -> int:
        return len(self.documents) * GAP

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        assert position % (GAP * self.per_chunk) == 0, "only where a chunk ended"
        return _Reader(self, source, position // GAP)


class _Reader:
    def __init__(self, part: _Part, source: PartitionId, at: int) -> None:
        self._part, self._source, self._at = part, source, at

    def read(self, max_bytes: int) -> Chunk | None:
        first, documents = self._at, self._part.documents[self._at : self._at + self._part.per_chunk]
        if not documents:
            return None
        self._at += len(documents)
        offsets = range(first * GAP, self._at * GAP, GAP)
        return RecordChunk(self._source, offsets, documents, end=self._at * GAP)

    def close(self) -> None:
        pass
