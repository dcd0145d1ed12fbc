"""Bounded sources and splits around others: as those, but for what a class that inherits changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from streamcore.batch import PartitionId
from streamcore.contracts import BoundedSource, Split, SplitReader


@dataclass(frozen=True)
class SourceWrapper:
    """*source* as it is."""

    source: BoundedSource

    @property
    def uri(self) -> str:
        return self.source.uri

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def columns(self) -> pl.Schema | None:
        return self.source.columns()

    def splits(self, wanted: int) -> Sequence[Split]:
        return self.source.splits(wanted)


@dataclass(frozen=True)
class SplitWrapper:
    """*split* as it is."""

    split: Split

    @property
    def name(self) -> str:
        return self.split.name

    @property
    def size(self) -> int:
        return self.split.size

    @property
    def bookmark(self) -> bytes:
        return self.split.bookmark

    def open(self, source: PartitionId, position: int, bookmark: bytes = b"") -> SplitReader:
        return self.split.open(source, position, bookmark)
