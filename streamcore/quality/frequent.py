"""How often each value occurs, while there are few of them, as a state that merges.

Past :data:`MOST` different values, or with one of more than :data:`LONGEST` bytes, no counts are kept,
whichever piece brought it past that. What is kept therefore does not depend on the cut, as it does with
sketches of frequent values, which drop what is rare so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

MOST = 4_096
"""Different values that are counted one by one."""
LONGEST = 256
"""Bytes of a value."""
VALUE, COUNT = "value", "count"


@dataclass(frozen=True, slots=True, eq=False)
class Frequent:
    """``counts`` has a row a value, in the values' order; None: there are too many."""

    counts: pl.DataFrame | None

    @classmethod
    def of(cls, counted: pl.DataFrame) -> Frequent:
        """From the columns ``value`` (different ones, no null) and ``count`` (Int64)."""
        if counted.height > MOST or _has_long(counted[VALUE]):
            return cls(None)
        return cls(counted.select(VALUE, COUNT).sort(VALUE))

    def merge(self, other: Frequent) -> Frequent:
        """Both together."""
        if self.counts is None or other.counts is None:
            return Frequent(None)
        together = pl.concat([self.counts, other.counts])
        return Frequent.of(together.group_by(VALUE).agg(pl.col(COUNT).sum()))

    def top(self, most: int) -> list[tuple[object, int]]:
        """The most frequent values with their counts; of equal counts the least value first."""
        if self.counts is None:
            return []
        best = self.counts.sort(COUNT, VALUE, descending=[True, False]).head(most)
        return list(best.iter_rows())


def _has_long(values: pl.Series) -> bool:
    if isinstance(values.dtype, pl.String):
        return bool((values.str.len_bytes() > LONGEST).any())
    return isinstance(values.dtype, pl.Binary) and bool((values.bin.size() > LONGEST).any())
