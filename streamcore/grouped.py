"""A stream on its way into a table, as users declare it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING

from streamcore.declaring import at, caller
from streamcore.durations import microseconds_of
from streamcore.state.operator import Operator
from streamcore.tables.declaration import first_operator, group_operator, latest_operator, top_operator

if TYPE_CHECKING:
    from streamcore.stream import Stream


class GroupedStream:
    """A stream whose rows belong together by the values of some columns, for as long as it lasts.

    What comes of it is a *table*: a stream of updates, of which each takes the place of the one before it
    with the same key. It goes to sinks that update by the same key, may be filtered and get other columns,
    and can be aggregated again.
    """

    def __init__(self, stream: Stream, by: tuple[str, ...]) -> None:
        self._stream, self._by = stream, by

    def aggregate(self, *, name: str | None = None, **aggregates: str) -> Stream:
        """A row for each group, kept up to date: the columns of ``by`` and *aggregates* in SQL text.

        The rows of a table are aggregated as they are now: what is updated counts with its new values only.
        ``first``, ``last`` and ``list`` go by the order in which the rows came together, which among the
        partitions of a topic is no certain one.
        """
        where, source = caller(), self._stream.node.source
        with at(where):
            of = source.key if source.updates else None
            operator = group_operator(self._by, aggregates, self._stream.columns, of=of)
        return self._table(operator, name, "table", where)

    def latest(self, *, deleted: str | None = None, name: str | None = None) -> Stream:
        """The latest row of each group: a row takes the place of the one before it.

        A row for which the SQL condition *deleted* is true deletes the group's row, e.g. ``op = 'd'``. Of a
        table (by its key) it is the table itself, whose rows are kept, so that they can be looked at.
        """
        where, source = caller(), self._stream.node.source
        with at(where):
            of = source.key if source.updates else None
            operator = latest_operator(self._by, self._stream.columns, of=of)
        marked = self if deleted is None else GroupedStream(self._stream._deleted(deleted), self._by)
        return marked._table(operator, name, "latest", where)

    def top(self, n: int, *, order: str, rank: str | None = None, name: str | None = None) -> Stream:
        """The best *n* rows of each group, kept up to date, in an *order* such as "price desc, bidder".

        Column *rank* says which it is, from 1; with one row a group it may be left out. Nulls are last, and
        of equal rows the one that came first is better. ``top(1, order="at desc")`` is the newest row.
        """
        where = caller()
        with at(where):
            self._stream._check_only_added("top")
            operator = top_operator(self._by, order, self._stream.columns, n=n, rank=rank)
        return self._table(operator, name, "top", where)

    def first(self, *, within: str | dt.timedelta | None = None, name: str | None = None) -> Stream:
        """The first row of each group; those that come after it are left out.

        For good, or, with *within*, until a row comes whose event time lies more than that after it. What
        comes out is no table: its rows are only added.
        """
        stream, where, source = self._stream, caller(), self._stream.node.source
        with at(where):
            stream._check_only_added("first")
            span = None if within is None else microseconds_of(within)
            operator = first_operator(
                self._by, stream.columns, stream=source.name, time=source.event_time, within=span
            )
        time = None if within is None else source.event_time  # without it, rows have no order in time
        after = replace(source, key=(), event_time=time, max_lateness=dt.timedelta(0))
        return stream._kept(operator, name, "first", where, after)

    def _table(self, operator: Operator, name: str | None, kind: str, where: str) -> Stream:
        source = self._stream.node.source
        after = replace(source, key=operator.key, event_time=None, of_windows=False, updates=True)
        return self._stream._kept(operator, name, kind, where, after)
