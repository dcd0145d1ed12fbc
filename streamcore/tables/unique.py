"""Which rows have a key that another row has had before them: all rows come out, marked.

As :mod:`streamcore.tables.first`, whose rows that pass are those that are not marked, and whose proof holds:
a row has the number of its arrival and its mark in any cut. Rows whose key has a null are never marked, as in
SQL. With *within* a late row is marked, since it can't be known any more what it would be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import OFFSET
from streamcore.state.base import types_of
from streamcore.state.emission import numbered
from streamcore.state.operator import LATE_MARK, Applied, State
from streamcore.tables.first import RESERVED as _FIRST
from streamcore.tables.first import FirstOperator
from streamcore.validation.rules import DUPLICATE

RESERVED = (*_FIRST, DUPLICATE, LATE_MARK)
"""Names that columns can't have."""


@dataclass(frozen=True)
class UniqueOperator(FirstOperator):
    """Marks the rows whose key *by* a row before them has; with *within*, if it is no farther in time.

    *time* is the column of the event time if the stream has one: which rows are late goes with them then.
    """

    @property
    def label(self) -> str:
        """Of which keys."""
        return f"unique by {', '.join(self.by)}"

    @property
    def timed(self) -> bool:
        """Whether the stream has an event time, so that windows may follow."""
        return self.time is not None

    @property
    def columns(self) -> pl.Schema:
        """Those of the rows that come in, and the mark."""
        return pl.Schema({**self.inputs, DUPLICATE: pl.Boolean()})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return repr(("unique", self.by, self.time, self.within, types_of(self.inputs)))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        late = {LATE_MARK: pl.Boolean()} if self.timed else {}
        return pl.DataFrame(schema={**self.inputs, **late, OFFSET: pl.Int64})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No rows; the runtime asks for :data:`LATE_MARK` in it."""
        return self._marked(self.no_rows.drop(OFFSET), np.zeros(0, np.bool_), 0)

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """The state with *rows*, and all of them, marked and numbered."""
        (runs,), after = state.kept, max(state.watermark, watermark)
        came = self.whole(rows).drop(OFFSET)
        marks = np.zeros(came.height, np.bool_)
        if came.height:
            times = self._times(came)
            keyed = came.select(~pl.any_horizontal(pl.col(self.by).is_null())).to_series().to_numpy()
            marks = keyed & self._too_late(came, times, state.watermark)
            judged = np.flatnonzero(keyed & ~marks)
            passed = judged[self._passing(runs, came[judged], times[judged])]
            marks[judged] = True
            marks[passed] = False
            runs = self._with(runs, self._pieces(came[passed], times[passed]))
        if after > state.watermark:
            runs = self._remembered(runs, after)
        now = State((runs,), after, state.emitted + came.height)
        return Applied(now, self._marked(came, marks, state.emitted))

    def _too_late(
        self, came: pl.DataFrame, times: npt.NDArray[np.int64], watermark: int
    ) -> npt.NDArray[np.bool_]:
        """Which rows may lie before what is still known."""
        if self.within is None:
            return np.zeros(came.height, np.bool_)
        late: npt.NDArray[np.bool_] = came[LATE_MARK].to_numpy() | (times < watermark)
        return late

    def _marked(self, came: pl.DataFrame, marks: npt.NDArray[np.bool_], number: int) -> pl.DataFrame:
        return numbered(came.with_columns(pl.Series(DUPLICATE, marks, pl.Boolean)), number)
