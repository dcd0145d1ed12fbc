"""A source of which only some connections may be open at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from streamcore.contracts import BoundedSource, Split


@dataclass(frozen=True, slots=True)
class Pooled:
    """*source*, read in at most *most* parts side by side: each has a connection of its own."""

    source: BoundedSource
    most: int

    @property
    def uri(self) -> str:
        return self.source.uri

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def columns(self) -> pl.Schema | None:
        return self.source.columns()

    def splits(self, wanted: int) -> Sequence[Split]:
        return self.source.splits(min(wanted, self.most))
