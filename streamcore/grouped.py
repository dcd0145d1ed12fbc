"""A stream on its way into a table, as users declare it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING

from streamcore.declaring import at, caller
from streamcore.durations import microseconds_of
from streamcore.errors import BadConfig
from streamcore.state.operator import Operator
from streamcore.tables.declaration import (
    Lives,
    first_operator,
    group_operator,
    latest_operator,
    regroup_operator,
    top_of_table_operator,
    top_operator,
)

if TYPE_CHECKING:
    from streamcore.stream import Stream


class GroupedStream:
    """A stream whose rows belong together by the values of some columns, for as long as it lasts.

    What comes of it is a *table*: a stream of updates, of which each takes the place of the one before it
    with the same key. It goes to sinks that update by the same key, may be filtered and get other columns,
    and can be aggregated again.
    """

    def __init__(self, stream: Stream, by: tuple[str, ...], ttl: str | dt.timedelta | None = None) -> None:
        self._stream, self._by, self._ttl = stream, by, ttl

    def aggregate(self, *, name: str | None = None, **aggregates: str) -> Stream:
        """A row for each group, kept up to date: the columns of ``by`` and *aggregates* in SQL text.

        The rows of a table are aggregated as they are now: what is updated counts with its new values only.
        ``first``, ``last`` and ``list`` go by the order in which the rows came together, which among the
        partitions of a topic is no certain one; with a ttl they go by the event time, as in windows.
        """
        where, source, columns = caller(), self._stream.node.source, self._stream.columns
        own = self._stream._topology._aggregates
        operator: Operator
        with at(where):
            if source.updates:
                self._check_no_ttl("aggregates of a table")
                operator = regroup_operator(self._by, aggregates, columns, own, of=source.key)
            else:
                operator = group_operator(self._by, aggregates, columns, own, self._lives)
        return self._updated(operator, name, "table", where)

    def latest(self, *, deleted: str | None = None, name: str | None = None) -> Stream:
        """The latest row of each group: a row takes the place of the one before it.

        A row for which the SQL condition *deleted* is true deletes the group's row, e.g. ``op = 'd'``. Of a
        table (by its key) it is the table itself, whose rows are kept, so that they can be looked at.
        """
        where, source, stream = caller(), self._stream.node.source, self._stream
        if source.updates and set(source.key) != set(self._by):
            got, allowed = ", ".join(self._by), [", ".join(source.key)]
            raise BadConfig("a table is kept by its key", where=where, got=got, allowed=allowed)
        if deleted is not None:
            stream = stream._deleted(deleted)
        with at(where):
            operator = latest_operator(self._by, stream.columns, self._lives)
        return GroupedStream(stream, self._by)._updated(operator, name, "latest", where)

    def top(self, n: int, *, order: str, rank: str | None = None, name: str | None = None) -> Stream:
        """The best *n* rows of each group, kept up to date, in an *order* such as "price desc, bidder".

        Column *rank* says which it is, from 1; with one row a group it may be left out. Nulls are last, and
        of equal rows the one that came first is better, or with a ttl the one that is older by event time.
        ``top(1, order="at desc")`` is the newest row.

        Over a table it is its rows as they are now; of equal ones that whose last change is older is better.
        """
        where, source, columns = caller(), self._stream.node.source, self._stream.columns
        operator: Operator
        with at(where):
            if source.updates:
                self._check_no_ttl("top of a table")
                operator = top_of_table_operator(self._by, order, columns, of=source.key, n=n, rank=rank)
            else:
                operator = top_operator(self._by, order, columns, n=n, rank=rank, lives=self._lives)
        return self._updated(operator, name, "top", where)

    def first(self, *, within: str | dt.timedelta | None = None, name: str | None = None) -> Stream:
        """The first row of each group; those that come after it are left out.

        For good, or, with *within*, until a row comes whose event time lies more than that after it. What
        comes out is no table: its rows are only added.
        """
        stream, where, source = self._stream, caller(), self._stream.node.source
        with at(where):
            stream._check_only_added("first")
            self._check_no_ttl("first(), which has within= for it,")
            span = None if within is None else microseconds_of(within)
            operator = first_operator(
                self._by, stream.columns, stream=source.name, time=source.event_time, within=span
            )
        time = None if within is None else source.event_time  # without it, rows have no order in time
        after = replace(source, key=(), event_time=time, max_lateness=dt.timedelta(0))
        return stream._kept(operator, name, "first", where, after)

    @property
    def _lives(self) -> Lives | None:
        source = self._stream.node.source
        return (
            None if self._ttl is None else Lives(source.name, source.event_time, microseconds_of(self._ttl))
        )

    def _updated(self, operator: Operator, name: str | None, kind: str, where: str) -> Stream:
        source = self._stream.node.source
        after = replace(source, key=operator.key, event_time=None, of_windows=False, updates=True)
        return self._stream._kept(operator, name, kind, where, after)

    def _check_no_ttl(self, what: str) -> None:
        if self._ttl is not None:
            raise BadConfig(f"{what} takes no ttl", got=self._ttl, fix="give the table below a ttl")
