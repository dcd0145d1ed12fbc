"""The contract of stateful operators: windows, tables and joins as pure functions of frames and state.

A :class:`~streamcore.stateful_task.StatefulTask` calls them for one partition of the operator's log: rows
of all upstream partitions, of whose keys it gets all rows. ``apply(state, rows, watermark)`` gives the next
state and what comes out. Nothing here knows logs, partitions, a clock or asyncio.

What comes out is a stream of its own with *numbers* for positions, in ``_offset``: they grow along the
stream, and each row has one. The law that all exactness rests on, the **cut law**: for the same log, however
its records are put together into calls of ``apply``,

- an operator that only appends gives the same rows with the same numbers;
- an operator that *updates* (``key`` is not empty) may leave out an update that a later one of its key in
  the same call replaces. All others have the same numbers and values. So whoever has the updates before a
  number *n*, and of any other cut those from *n* on, has the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import polars as pl

from streamcore.batch import Rejects
from streamcore.event_time import BEGINNING
from streamcore.state.runs import Runs as Runs

UPSTREAM = "_upstream"
"""Column of rows that operators may ask for: a number of the partition that they came from, Int64, from 0.

It is the same in any process, and grows by the number of the partition, then by the topic's name.
"""
LATE_MARK = "_late"
"""A column of ``no_rows`` by which an operator asks for late rows too, and is told which ones they are.

In its emissions it says so of rows that go on: windows behind it leave them out."""

BEHIND = "_behind"
"""A column of ``no_rows`` by which an operator asks for late rows too, and ``prepare`` is told how late each
is: microseconds before the watermark that held when it came, else 0. What prepare leaves out counts as late.
It does not go to the log."""


@dataclass(frozen=True, slots=True)
class State:
    """What an operator holds for one partition of its log.

    ``kept``: runs of pieces, for each kind of piece that the operator has. ``watermark`` in microseconds;
    ``emitted`` is the number from which the next emissions are counted, ``arrived`` how many rows have come.
    """

    kept: tuple[Runs, ...]
    watermark: int = BEGINNING
    emitted: int = 0
    arrived: int = 0

    def __len__(self) -> int:
        """Pieces held; a key may have one in each run."""
        return sum(run.height for runs in self.kept for run in runs)


class Delta(NamedTuple):
    """What a batch adds: ``rows`` with the columns of ``no_rows`` but :data:`UPSTREAM`; ``rejects`` can't
    be kept."""

    rows: pl.DataFrame
    rejects: Rejects


class Applied(NamedTuple):
    """The state behind some rows; ``emission`` with hidden columns, its ``_offset`` the numbers.

    ``late``: how many rows were left out, since the state had let go of what they belong to.
    """

    state: State
    emission: pl.DataFrame
    late: int = 0


class Operator(Protocol):
    """One stateful operator. Frozen, pure, and the same in each process for the same declaration."""

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        ...

    @property
    def by(self) -> tuple[str, ...]:
        """Columns of ``no_rows`` that sort rows to the log's partitions; none: the log has one partition."""
        ...

    @property
    def columns(self) -> pl.Schema:
        """The user columns of what comes out."""
        ...

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that name a row of the table that the emissions update; none: they only append."""
        ...

    @property
    def timed(self) -> bool:
        """Whether event time matters: late rows are then left out (but for :data:`LATE_MARK`)."""
        ...

    @property
    def orderly(self) -> bool:
        """Whether each record of the log needs a call of its own: the watermark between rows matters."""
        ...

    @property
    def lag(self) -> int:
        """How far event times of emissions may lie behind the watermark, in microseconds."""
        ...

    @property
    def definition(self) -> str:
        """What it computes, as text: equal in any process for the same results, another for others."""
        ...

    @property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns that :meth:`apply` takes: ``_offset``, those that are needed, and
        :data:`UPSTREAM` and :data:`BEHIND` if the operator asks for them, which do not go to the log."""
        ...

    @property
    def nothing_out(self) -> pl.DataFrame:
        """No emission, with the columns that :meth:`finish` takes."""
        ...

    @property
    def empty(self) -> State:
        """The state before the first row."""
        ...

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """Called where rows are read, with user and hidden columns; *stage* names the node in rejects."""
        ...

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Called with *rows* (deltas' rows, in the log's order) and the *watermark* behind them.

        ``event_time.END``: everything that feeds it is bounded and has ended.
        """
        ...

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """``columns`` and the hidden ones of (some rows of) an emission; PolarsError for a value that its
        type can't hold. Called with one row as well, to find which it was."""
        ...

    def shown(self, state: State) -> pl.DataFrame:
        """What *state* holds, for people: a table's rows, windows that are open, the rows that wait."""
        ...

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """``State.kept`` of frames that another process has written, with their columns and order."""
        ...
