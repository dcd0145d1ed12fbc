"""Conformance suite of aggregates: one named test for each sentence of ``aggregates.Aggregate``.

An aggregate's test module subclasses it and says what goes in::

    class TestProduct(AggregateConformance):
        def aggregate(self) -> Aggregate:
            return Product()

        def values(self, count: int) -> pl.Series: ...
"""

from __future__ import annotations

import io
from itertools import pairwise

import polars as pl
from polars.testing import assert_frame_equal

from streamcore.aggregates import Aggregate

__all__ = ["AggregateConformance"]

ROWS = 60
_GROUP, _VALUE = "group", "value"


class AggregateConformance:
    """Subclass with :meth:`aggregate` and :meth:`values`; let the values hold nulls and awkward ones."""

    any_order: bool = True
    """Whether the value is the same in any order of the rows: windows need it, tables do not."""
    tolerance: float = 1e-9
    """Relative, of floats: adding them in another order rounds otherwise."""

    def aggregate(self) -> Aggregate:
        """A new description of the aggregate; two calls give equal ones."""
        raise NotImplementedError

    def values(self, count: int) -> pl.Series:
        """*count* values that the aggregate takes, among them nulls."""
        raise NotImplementedError

    # ------------------------------------------------------------ the laws

    def test_two_descriptions_are_equal(self) -> None:
        assert self.aggregate() == self.aggregate()

    def test_merging_keeps_the_number_and_the_types_of_what_is_kept(self) -> None:
        kept = self._partial(self._rows())
        assert self._merged(kept).schema == kept.schema

    def test_any_cut_and_any_tree_of_merges_gives_the_same(self) -> None:
        whole = self._value(self._partial(self._rows()))
        for cuts in ((0,), (1, 2, 30), (10, 10, 59), tuple(range(ROWS))):
            bounds = [0, *cuts, ROWS]
            pieces = [self._partial(self._rows()[start:end]) for start, end in pairwise(bounds)]
            left = pieces[0]
            for piece in pieces[1:]:
                left = self._merged(pl.concat([left, piece]))
            right = pieces[-1]
            for piece in reversed(pieces[:-1]):
                right = self._merged(pl.concat([piece, right]))
            for merged in (left, right, self._merged(pl.concat(pieces))):
                self._assert_same(self._value(merged), whole)

    def test_pieces_without_a_row_that_counts_change_nothing(self) -> None:
        rows = self._rows()
        none = self._partial(rows.with_columns(pl.lit(None, rows.schema[_VALUE]).alias(_VALUE)))
        if not self.aggregate().skips_nulls:
            return
        for pieces in ([none, self._partial(rows)], [self._partial(rows), none]):
            merged = self._value(self._merged(pl.concat(pieces)))
            self._assert_same(merged, self._value(self._partial(rows)))

    def test_any_order_gives_the_same_if_it_says_so(self) -> None:
        if self.any_order:
            whole = self._value(self._partial(self._rows()))
            for seed in range(3):
                shuffled = self._rows().sample(fraction=1.0, shuffle=True, seed=seed)
                halves = [self._partial(shuffled[:20]), self._partial(shuffled[20:])]
                self._assert_same(self._value(self._merged(pl.concat(halves))), whole)

    def test_what_is_kept_goes_through_a_snapshot(self) -> None:
        kept, out = self._partial(self._rows()), io.BytesIO()
        kept.write_ipc_stream(out)
        assert pl.read_ipc_stream(out.getvalue()).equals(kept)

    # ------------------------------------------------------------ the way

    def _rows(self) -> pl.DataFrame:
        """Two groups, so that one can't leak into the other."""
        return pl.DataFrame({_GROUP: [i % 2 for i in range(ROWS)], _VALUE: self.values(ROWS)})

    def _partial(self, rows: pl.DataFrame) -> pl.DataFrame:
        kept = self.aggregate().partial(pl.col(_VALUE))
        return rows.group_by(_GROUP, maintain_order=True).agg(e.alias(f"_{i}") for i, e in enumerate(kept))

    def _merged(self, kept: pl.DataFrame) -> pl.DataFrame:
        names = kept.columns[1:]
        merged = self.aggregate().merge(*map(pl.col, names))
        exprs = [e.alias(n) for n, e in zip(names, merged, strict=True)]
        return kept.group_by(_GROUP, maintain_order=True).agg(exprs)

    def _value(self, kept: pl.DataFrame) -> pl.DataFrame:
        value = self.aggregate().final(*map(pl.col, kept.columns[1:]))
        return kept.select(_GROUP, value.alias(_VALUE)).sort(_GROUP)

    def _assert_same(self, one: pl.DataFrame, other: pl.DataFrame) -> None:
        assert_frame_equal(one, other, rel_tol=self.tolerance)
