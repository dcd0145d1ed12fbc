"""Tables whose rows leave when nothing has come for their key for a while, by event time.

**Lives.** The rows of a key that are at most a time to live apart are a *life*: a session. A table shows the
newest life of each key. A row that comes more than that later begins a life beside the first, which the
table shows from then on; if rows in between come, the two merge. So the lives are the same in whatever order
the partitions are read.

**Leaving.** When the watermark has passed a life's end nothing can be added to it: it is forgotten, and its
rows are deleted. The end is rounded up to a sixteenth of the time to live. The end of a bounded stream lets
nothing more leave than the newest watermark before it, of whichever partition.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from streamcore.aggregates.sessions import AggregatedSessions
from streamcore.batch import DELETES, HIDDEN, OP, OP_DELETE
from streamcore.event_time import BEGINNING, END
from streamcore.state.base import types_of, with_time
from streamcore.state.grouping import GONE
from streamcore.state.operator import UPSTREAM, Delta
from streamcore.state.order import ORDER, asked_for, ordered
from streamcore.state.sessions import FOREVER, LAST, NUMBER, SessionTable
from streamcore.state.sessions import RESERVED as SESSIONS
from streamcore.tables.ordering import Order
from streamcore.tables.top import best_of

_RANK = "_rank"
RESERVED = (*SESSIONS, ORDER, UPSTREAM, GONE, _RANK)
"""Names that columns of the rows can't have."""


@dataclass(frozen=True)
class LivingTable(SessionTable):
    """The parts that all tables with a time to live share: *ttl* microseconds."""

    ttl: int

    @property
    def key(self) -> tuple[str, ...]:
        """A key has one row."""
        return self.by

    @property
    def names(self) -> tuple[str, ...]:
        """See :class:`~streamcore.state.sessions.SessionTable`."""
        return self.by

    @property
    def gap(self) -> int:
        """See :class:`~streamcore.state.sessions.SessionTable`."""
        return self.ttl

    @property
    def keeps(self) -> int:
        """See :class:`~streamcore.state.sessions.SessionTable`."""
        return self.ttl

    def limit(self, watermark: int) -> int:
        """Lives that ended before it are over."""
        return BEGINNING if watermark == END else super().limit(watermark)

    def turned(self, watermark: int) -> int:
        """What is over leaves."""
        return self.limit(watermark)

    def rows_of(self, sessions: pl.DataFrame, watermark: int) -> pl.DataFrame:
        """The rows of the newest life of each key, unless it is over."""
        newest = pl.col(LAST) == pl.col(LAST).max().over(*self.by)
        return self.living(sessions.filter(newest & (pl.col(LAST) >= self.limit(watermark))))

    @abstractmethod
    def living(self, lives: pl.DataFrame) -> pl.DataFrame:
        """The rows of the table that *lives* make, one of each key."""

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """The needed columns. Rows need a time, but for deletions."""
        message = f"{self.time} holds no time, so it can't be said how long the row lives"
        none = self.times(frame).is_null() & (frame[OP] != OP_DELETE)
        frame, rejects = with_time(frame, none, stage, message)
        return Delta(frame.select([name for name in self.no_rows.columns if name != UPSTREAM]), rejects)

    def _label(self, what: str) -> str:
        return f"{what} by {', '.join(self.by)}, for {self.ttl / 1_000_000:g} s"

    def _definition(self, what: str, *told: object) -> str:
        return repr(("lives", what, self.by, *told, self.time, self.ttl, types_of(self.inputs)))


@dataclass(frozen=True)
class LivingGroups(LivingTable, AggregatedSessions):
    """Aggregates of the newest life of each key; first, last and list go by event time, as in windows."""

    @property
    def label(self) -> str:
        """The keys, and for how long."""
        return self._label("aggregates")

    @property
    def columns(self) -> pl.Schema:
        """The keys and the aggregates."""
        return pl.Schema({**{name: self.inputs[name] for name in self.by}, **self.aggregation.result_types})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return self._definition("aggregates", dict(self.aggregation.texts))

    def living(self, lives: pl.DataFrame) -> pl.DataFrame:
        """See :class:`LivingTable`."""
        return lives

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """Keys and results of *emission*; PolarsError for a value that its type can't hold."""
        return emission.select(*self.by, *self.aggregation.results(), *HIDDEN)


@dataclass(frozen=True)
class LivingTop(LivingTable):
    """The *n* best rows by *order* of the newest life of each key; a piece is one of the best rows of a life.

    Of rows that stand equal the one that is older by event time is better, then the one of the lower
    partition. *rank* names the column of the rank, or is None.
    """

    order: tuple[Order, ...]
    n: int
    rank: str | None

    @property
    def label(self) -> str:
        """How many rows of which groups, and for how long."""
        return self._label(f"top {self.n}")

    @property
    def key(self) -> tuple[str, ...]:
        """What names a row of the table: the group, and its rank if there are several."""
        return (*self.by, self.rank) if self.rank and self.n > 1 else self.by

    @property
    def names(self) -> tuple[str, ...]:
        """See :class:`~streamcore.state.sessions.SessionTable`."""
        return (*self.by, _RANK)

    @property
    def columns(self) -> pl.Schema:
        """Those of the rows, and the rank if it has a name."""
        return pl.Schema({**self.inputs, **({self.rank: pl.Int64()} if self.rank else {})})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return self._definition("top", [tuple(order) for order in self.order], self.n, self.rank)

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        return pl.DataFrame(schema={**self.inputs, **asked_for(True)})

    def placed(self, rows: pl.DataFrame, times: pl.Series) -> pl.DataFrame:
        """*rows* and their order."""
        return ordered(rows, times)

    def first(self, frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """The best rows, as :meth:`merge`."""
        return self.merge(frame, keys)

    def merge(self, frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """The best rows of each group."""
        places, _ = best_of(frame, keys, self._better, self.n)
        return frame[np.sort(places)]

    def living(self, lives: pl.DataFrame) -> pl.DataFrame:
        """The best rows and their ranks."""
        places, ranks = best_of(lives, self.by, self._better, self.n)
        return lives[places].with_columns(pl.Series(_RANK, ranks + 1, pl.Int64))

    @property
    def _better(self) -> tuple[Order, ...]:
        return (*self.order, Order(ORDER))  # then the one that came first, as pieces stand

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """The rows, and their ranks if these have a name."""
        ranks = [pl.col(_RANK).alias(self.rank)] if self.rank else []
        return emission.select(*self.inputs, *ranks, *HIDDEN)


@dataclass(frozen=True)
class LivingLatest(LivingTable):
    """The latest row of each key in the log's order, until the newest time of its rows is too old.

    Which row is the latest does not depend on lives, so all rows of a key count as one. A piece is the
    latest row. Deletions need no time; those that have none keep nothing alive.
    """

    @property
    def label(self) -> str:
        """The keys, and for how long."""
        return self._label("latest")

    @property
    def gap(self) -> int:
        """See :class:`~streamcore.state.sessions.SessionTable`."""
        return FOREVER

    @property
    def columns(self) -> pl.Schema:
        """Those of the rows that come in."""
        return self.inputs

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return self._definition("latest")

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's."""
        return pl.DataFrame(schema={**self.inputs, OP: pl.UInt8(), **asked_for(False)})

    def placed(self, rows: pl.DataFrame, times: pl.Series) -> pl.DataFrame:
        """The rows, and which of them delete."""
        return rows.select(*self.inputs, DELETES.alias(GONE))

    def first(self, frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """The latest row, as :meth:`merge`."""
        return self.merge(frame, keys)

    def merge(self, frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """The row with the highest number of each group."""
        return frame.filter(pl.col(NUMBER) == pl.col(NUMBER).max().over(*keys))

    def living(self, lives: pl.DataFrame) -> pl.DataFrame:
        """Those that are not deleted."""
        return lives.filter(~pl.col(GONE))
