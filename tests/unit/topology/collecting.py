"""A sink that only has a name, for tests of the declaration."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from streamcore.contracts import SinkAbilities, SinkContext, SinkWriter


@dataclass(frozen=True)
class Collect:
    name: str
    own_topic: str | None = None
    abilities = SinkAbilities()

    def check(self, columns: pl.Schema) -> None:
        pass

    def writer(self, context: SinkContext) -> SinkWriter:
        raise AssertionError("a declaration does not write")
