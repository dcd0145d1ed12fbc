"""What operators are unless they say otherwise: they only append, and know no time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import polars as pl

from streamcore.batch import HIDDEN, HIDDEN_TYPES, Rejects
from streamcore.state.operator import Delta, Operator, State
from streamcore.state.runs import Runs, rebuilt


class BaseOperator:
    """The parts of :class:`~streamcore.state.operator.Operator` in which most are alike.

    Its state is one kind of pieces, runs by the columns ``by``; its rows are needed as they come, and its
    emissions have their columns already. A subclass is an Operator: it adds what is missing here, and says
    what is otherwise.
    """

    @property
    def key(self) -> tuple[str, ...]:
        """Rows are only added."""
        return ()

    @property
    def timed(self) -> bool:
        """Event time does not matter."""
        return False

    @property
    def orderly(self) -> bool:
        """Records of the log may come together."""
        return False

    @property
    def lag(self) -> int:
        """No emission lies behind the watermark."""
        return 0

    @property
    def empty(self) -> State:
        """No pieces."""
        return State((Runs(),))

    @cached_property
    def nothing_out(self: Operator) -> pl.DataFrame:
        """No emission."""
        return pl.DataFrame(schema={**self.columns, **HIDDEN_TYPES})

    def prepare(self: Operator, frame: pl.DataFrame, stage: str) -> Delta:
        """The columns that are needed, of all rows."""
        return Delta(frame.select(self.no_rows.columns), Rejects())

    def finish(self: Operator, emission: pl.DataFrame) -> pl.DataFrame:
        """*emission*, which has its columns already."""
        return emission.select(*self.columns, *HIDDEN)

    def restored(self: Operator, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The runs, in the order of this process's hashes."""
        return rebuilt(kept, self.by)

    def whole(self: Operator, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """*rows* of a call as one frame."""
        return pl.concat(rows) if rows else self.no_rows


def types_of(columns: pl.Schema) -> dict[str, str]:
    """Names and types of *columns* as a ``definition`` tells them."""
    return {name: str(dtype) for name, dtype in columns.items()}


def only(columns: pl.Schema, needed: Collection[str]) -> pl.Schema:
    """Those of *columns* that are *needed*, in their order."""
    return pl.Schema({name: dtype for name, dtype in columns.items() if name in needed})


def with_time(
    frame: pl.DataFrame, timeless: pl.Series, stage: str, message: str
) -> tuple[pl.DataFrame, Rejects]:
    """*frame* without the rows that are *timeless*, which node *stage* refuses with *message*."""
    if not timeless.any():
        return frame, Rejects()
    return frame.filter(~timeless), Rejects.of(frame.filter(timeless), stage, "no_time", message)
