"""A source of which only some connections may be open at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamcore.contracts import Split
from streamcore.wrapping import SourceWrapper


@dataclass(frozen=True)
class Pooled(SourceWrapper):
    """*source*, read in at most *most* parts side by side: each has a connection of its own."""

    most: int

    def splits(self, wanted: int) -> Sequence[Split]:
        return self.source.splits(min(wanted, self.most))
