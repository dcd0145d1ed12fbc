"""What a worker remembers of a reference: rows by key, in columns, and that a key has none."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from streamcore.asking import Caching
from streamcore.state.operator import Runs
from streamcore.state.runs import added, as_run, found, hashes_of, merged_by

_THERE, _UNTIL = "_there", "_until"
"""Hidden columns: whether the key has a row, and until when (seconds since 1970) that is believed."""


class LookupCache:
    """Rows with *columns*, named by *key*, remembered as *caching* says. Knows no clock: it is told the time.

    A row is believed from when it was asked for, and no longer than ``caching.seconds`` from then. When there
    are more than ``caching.rows``, those that were asked for first are forgotten, half of them at once.
    """

    def __init__(self, columns: pl.Schema, key: Sequence[str], caching: Caching) -> None:
        self._columns, self._key, self._caching = columns, list(key), caching
        self._runs = Runs()

    def __len__(self) -> int:
        """Keys remembered, those that are believed no more too."""
        return sum(run.height for run in self._runs)

    def known(self, keys: pl.DataFrame, now: float) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The remembered rows of *keys* that have one, and the keys of which nothing is remembered."""
        parts = found(self._runs, hashes_of(keys, self._key))
        if not parts:
            return pl.DataFrame(schema=self._columns), keys
        pieces = pl.concat(parts).unique(self._key, keep="last").filter(pl.col(_UNTIL) > now)
        mine = pieces.join(keys, on=self._key, how="semi")
        missing = keys.join(mine, on=self._key, how="anti", maintain_order="left")
        return mine.filter(_THERE).select(*self._columns), missing

    def add(self, keys: pl.DataFrame, rows: pl.DataFrame, now: float) -> None:
        """At *now* it was asked for *keys*, and *rows* are those that there are."""
        there = rows.with_columns(
            pl.lit(True).alias(_THERE), pl.lit(now + self._caching.seconds, pl.Float64).alias(_UNTIL)
        )
        none = keys.join(rows, on=self._key, how="anti").with_columns(
            pl.lit(False).alias(_THERE), pl.lit(now + self._caching.misses, pl.Float64).alias(_UNTIL)
        )
        piece = as_run(pl.concat([there, none], how="diagonal"), self._key)

        def merge(frame: pl.DataFrame) -> pl.DataFrame:
            return merged_by(frame, lambda pieces: self._fewer(pieces, now))

        self._runs = added(self._runs, piece, merge)
        if len(self) > self._caching.rows:
            whole = self._fewer(pl.concat(self._runs), now).sort(_UNTIL).tail(max(self._caching.rows // 2, 1))
            self._runs = Runs((merged_by(whole, lambda pieces: pieces),))

    def _fewer(self, pieces: pl.DataFrame, now: float) -> pl.DataFrame:
        """The newest of each key of *pieces* that is believed still."""
        newest = pieces.unique(self._key, keep="last", maintain_order=True)
        return newest.filter(pl.col(_UNTIL) > now)
