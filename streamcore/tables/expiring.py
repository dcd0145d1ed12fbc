"""Tables whose rows leave when nothing has come for their key for a while, by event time.

**Lives.** A key lives from its first row on until a time to live after the newest of its rows; a row that
comes later than that begins a life of its own, in which nothing of the former one counts. That is judged row
by row, by the rows' times in the log's order, so it does not depend on how the stream is cut. It does depend
on the order among upstream partitions, where they are read unevenly by more than the time to live. The table
itself is another operator's, whose keys are those of this one and the life's number (that of the row that
began it).

**Leaving.** What has a life that is over is deleted when the watermark has passed its end, rounded up to a
sixteenth of the time to live, since each time costs a look at all keys. A row that is not late lies behind
the watermark, so it would find the life over, whether that has been noticed or not. When that is depends
on the log's records, each of which is a call of its own (``orderly``): so are the numbers of the emissions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
import polars as pl

from streamcore.batch import HIDDEN, OP, OP_DELETE
from streamcore.event_time import BEGINNING, END, microseconds
from streamcore.state.base import BaseOperator, with_time
from streamcore.state.emission import counted_from
from streamcore.state.operator import Applied, Delta, Operator, Runs, State
from streamcore.state.runs import HASH, added, as_run, compacted, found, hashes_of, merged_by, rebuilt, taken
from streamcore.tables.grouping import PLACE, groups_of, together, youngest
from streamcore.tables.lives import lives_of

LIFE = "_life"
"""Column of the table's keys: the number of the row that began the key's life."""
_LAST = "_last"
"""Column of the lives: the newest time of the life's rows, in microseconds."""
RESERVED = (HASH, PLACE, LIFE, _LAST)
"""Names that columns of the rows can't have."""
_STEPS = 16
_NEVER = -(1 << 62) + 1
"""The time of a deletion that has none: it keeps nothing alive."""


class TableOperator(Operator, Protocol):
    """The operator of a table, whose pieces are all found by its keys ``by``."""

    def rows_of(self, state: State) -> pl.DataFrame:
        """All rows of the table as updates, as ``finish`` takes them."""
        ...


@dataclass(frozen=True)
class ExpiringOperator(BaseOperator):
    """*table*, whose keys are *by* and :data:`LIFE`, with lives of *ttl* microseconds of the column *time*.

    *inputs* are the user columns of the rows that come in. Its last kind of pieces are the keys' lives, those
    before it the table's.
    """

    table: TableOperator
    by: tuple[str, ...]
    time: str
    ttl: int
    inputs: pl.Schema

    timed: ClassVar[bool] = True
    orderly: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """What table, and for how long."""
        return f"{self.table.label.removesuffix(f', {LIFE}')}, for {self.ttl / 1_000_000:g} s"

    @property
    def key(self) -> tuple[str, ...]:
        """The table's, without the life."""
        return tuple(name for name in self.table.key if name != LIFE)

    @property
    def columns(self) -> pl.Schema:
        """The table's, without the life."""
        return pl.Schema({name: dtype for name, dtype in self.table.columns.items() if name != LIFE})

    @property
    def definition(self) -> str:
        """See :class:`~streamcore.state.operator.Operator`."""
        return repr(("expiring", self.table.definition, self.time, self.ttl))

    @property
    def empty(self) -> State:
        """Nothing, of the table and of lives."""
        return State((*self.table.empty.kept, Runs()))

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """No rows, with the columns of a delta's: the table's, and the time."""
        needed = {name: dtype for name, dtype in self.table.no_rows.schema.items() if name != LIFE}
        return pl.DataFrame(schema={self.time: self.inputs[self.time], **needed})

    @cached_property
    def nothing_out(self) -> pl.DataFrame:
        """No updates."""
        return self.table.nothing_out

    def prepare(self, frame: pl.DataFrame, stage: str) -> Delta:
        """The needed columns. Rows need a time, but for deletions."""
        timeless = microseconds(frame[self.time]).is_null() & (frame[OP] != OP_DELETE)
        message = f"{self.time} holds no time, so it can't be said how long the row lives"
        frame, rejects = with_time(frame, timeless, stage, message)
        return Delta(frame.select(self.no_rows.columns), rejects)

    def apply(self, state: State, rows: Sequence[pl.DataFrame], watermark: int) -> Applied:
        """Add *rows* to the table and the lives of their keys; then delete what *watermark* ends."""
        came = self.whole(rows)
        times = microseconds(came[self.time])
        on_time = (times >= state.watermark).fill_null(True)
        given, came, times = came.height, came.filter(on_time), times.filter(on_time)
        *kept, lives = state.kept
        known = State(tuple(kept), state.watermark, state.arrived)
        parts, after = [], max(state.watermark, watermark)
        if came.height:
            lived, ended = self._lived(came, times, lives, state.arrived)
            applied = self.table.apply(known, [lived.select(self.table.no_rows.columns)], watermark)
            updates = applied.emission.filter(~pl.col(LIFE).is_in(ended[LIFE].implode()))
            parts = [self._over(known, ended, updates), updates]
            known, lives = applied.state, self._with(lives, lived)
        before = self._limit(state.watermark)
        if (limit := self._limit(after)) > before:
            known, lives, left = self._expired(known, lives, limit)
            parts.append(left)
        emission = self._numbered(parts, state.emitted)
        now = State((*known.kept, lives), after, state.emitted + emission.height, known.emitted)
        return Applied(now, emission, given - came.height)

    def finish(self, emission: pl.DataFrame) -> pl.DataFrame:
        """The table's columns of *emission*."""
        return self.table.finish(emission).drop(LIFE)

    def shown(self, state: State) -> pl.DataFrame:
        """The table."""
        *kept, lives = state.kept
        living = _only(tuple(kept), self._merged(lives)[LIFE])
        return self.table.shown(State(living)).drop(LIFE)

    def restored(self, kept: Sequence[Sequence[pl.DataFrame]]) -> tuple[Runs, ...]:
        """The table's runs, and those of lives."""
        return (*self.table.restored(kept[:-1]), *rebuilt(kept[-1:], self.by))

    # ------------------------------------------------------------ lives

    @cached_property
    def _no_lives(self) -> pl.DataFrame:
        keys = {name: self.no_rows.schema[name] for name in self.by}
        return pl.DataFrame(schema={**keys, LIFE: pl.Int64, _LAST: pl.Int64, HASH: pl.UInt64})

    def _lived(
        self, came: pl.DataFrame, times: pl.Series, lives: Runs, first: int
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """*came* with the life of each row, and the lives that its rows have ended, by key.

        Column :data:`_LAST` is the newest time of the key up to the row.
        """
        parts = [part.select(self._no_lives.columns) for part in found(lives, hashes_of(came, self.by))]
        knew = youngest(pl.concat([self._no_lives, *parts]).sort(HASH, maintain_order=True), self.by)
        keys = pl.concat([knew.select(self.by), came.select(self.by)])
        numbers = np.arange(first, first + came.height)
        judged = lives_of(
            together(groups_of(keys, self.by)),
            np.concatenate([knew[_LAST].to_numpy(), times.fill_null(_NEVER).to_numpy()]),
            np.concatenate([knew[LIFE].to_numpy(), numbers]),
            self.ttl,
        )
        columns = (pl.Series(LIFE, judged.lives), pl.Series(_LAST, judged.newest))
        lived = came.with_columns(column[knew.height :] for column in columns)
        return lived, keys.with_columns(columns[0])[judged.ended]

    def _with(self, lives: Runs, lived: pl.DataFrame) -> Runs:
        """*lives* with the newest of each key of *lived*."""
        newest = lived.select(*self.by, LIFE, _LAST).unique(self.by, keep="last", maintain_order=True)
        return added(lives, as_run(newest, self.by), lambda frame: merged_by(frame, self._youngest))

    def _merged(self, lives: Runs) -> pl.DataFrame:
        return merged_by(pl.concat(lives), self._youngest) if lives else self._no_lives

    def _youngest(self, lives: pl.DataFrame) -> pl.DataFrame:
        return youngest(lives, self.by)

    # ------------------------------------------------------------ leaving

    def _over(self, before: State, ended: pl.DataFrame, updates: pl.DataFrame) -> pl.DataFrame:
        """Deletions of the rows that *ended* lives had *before*, but for those that *updates* replace."""
        if not ended.height:
            return updates.clear()
        hashes = hashes_of(ended, self.table.by)
        near = tuple(Runs(tuple(found(runs, hashes))) for runs in before.kept)
        gone = self._deleted(replace(before, kept=near), ended[LIFE])
        return gone.join(updates, on=list(self.key), how="anti", nulls_equal=True, maintain_order="left")

    def _expired(self, table: State, lives: Runs, limit: int) -> tuple[State, Runs, pl.DataFrame]:
        """*table* and *lives* without those that were last renewed before *limit*, and the deletions."""
        newest = compacted(lives, lambda frame: merged_by(frame, self._youngest))
        lives, over = taken(newest, pl.col(_LAST) < limit)
        left = self._deleted(table, pl.concat(over or [self._no_lives])[LIFE])
        living = pl.concat([run.select(LIFE) for run in lives] or [self._no_lives.select(LIFE)])[LIFE]
        dead = ~pl.col(LIFE).is_in(living.implode())
        return replace(table, kept=tuple(taken(runs, dead)[0] for runs in table.kept)), lives, left

    def _deleted(self, table: State, lives: pl.Series) -> pl.DataFrame:
        """Deletions of the rows that *table* has of *lives*; they have the keys only."""
        rows = self.table.rows_of(replace(table, kept=_only(table.kept, lives)))
        kept = (*self.table.key, *HIDDEN)
        nulls = (pl.lit(None, dtype).alias(name) for name, dtype in rows.schema.items() if name not in kept)
        return rows.with_columns(*nulls, pl.lit(OP_DELETE, pl.UInt8).alias(OP))

    def _limit(self, watermark: int) -> int:
        """Lives that were last renewed before this time are over: it moves in steps with *watermark*.

        The end of a bounded stream lets nothing leave.
        """
        time = watermark - self.ttl
        if watermark == END or time <= BEGINNING:
            return BEGINNING
        return max(time - time % max(self.ttl // _STEPS, 1), BEGINNING)

    def _numbered(self, parts: Sequence[pl.DataFrame], first: int) -> pl.DataFrame:
        rows = pl.concat([self.nothing_out, *parts])
        return rows.with_columns(counted_from(first, rows.height))


def _only(kept: Sequence[Runs], lives: pl.Series) -> tuple[Runs, ...]:
    """*kept* pieces of these *lives*."""
    living = pl.col(LIFE).is_in(lives.implode())
    parts = (tuple(run.filter(living) for run in runs) for runs in kept)
    return tuple(Runs(tuple(run for run in runs if run.height)) for runs in parts)
