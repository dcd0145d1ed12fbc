"""A stream on its way into a table, as users declare it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from streamcore.declaring import at, caller
from streamcore.durations import microseconds_of
from streamcore.errors import BadConfig
from streamcore.state.operator import Operator
from streamcore.tables.declaration import (
    expiring,
    first_operator,
    group_operator,
    latest_operator,
    regroup_operator,
    top_of_table_operator,
    top_operator,
)
from streamcore.tables.expiring import TableOperator

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
        partitions of a topic is no certain one.
        """
        where, source = caller(), self._stream.node.source
        own = self._stream._topology._aggregates
        if not source.updates:
            return self._table(
                lambda by, columns: group_operator(by, aggregates, columns, own), name, "table"
            )
        with at(where):
            self._check_no_ttl("aggregates of a table")
            operator = regroup_operator(self._by, aggregates, self._stream.columns, own, of=source.key)
        return self._updated(operator, name, "table", where)

    def latest(self, *, deleted: str | None = None, name: str | None = None) -> Stream:
        """The latest row of each group: a row takes the place of the one before it.

        A row for which the SQL condition *deleted* is true deletes the group's row, e.g. ``op = 'd'``. Of a
        table (by its key) it is the table itself, whose rows are kept, so that they can be looked at.
        """
        marked, source = self, self._stream.node.source
        if source.updates and set(source.key) != set(self._by):
            got, allowed = ", ".join(self._by), [", ".join(source.key)]
            raise BadConfig("a table is kept by its key", where=caller(), got=got, allowed=allowed)
        if deleted is not None:
            marked = GroupedStream(self._stream._deleted(deleted), self._by, self._ttl)
        return marked._table(latest_operator, name, "latest")

    def top(self, n: int, *, order: str, rank: str | None = None, name: str | None = None) -> Stream:
        """The best *n* rows of each group, kept up to date, in an *order* such as "price desc, bidder".

        Column *rank* says which it is, from 1; with one row a group it may be left out. Nulls are last, and
        of equal rows the one that came first is better. ``top(1, order="at desc")`` is the newest row.

        Over a table it is its rows as they are now; of equal ones that whose last change is older is better.
        """
        where, source = caller(), self._stream.node.source
        if source.updates:
            with at(where):
                self._check_no_ttl("top of a table")
                columns = self._stream.columns
                operator = top_of_table_operator(self._by, order, columns, of=source.key, n=n, rank=rank)
            return self._updated(operator, name, "top", where)
        return self._table(lambda by, columns: top_operator(by, order, columns, n=n, rank=rank), name, "top")

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

    def _table(
        self,
        make: Callable[[tuple[str, ...], pl.Schema], TableOperator],
        name: str | None,
        kind: str,
    ) -> Stream:
        """The table that *make* makes of keys and columns, with the time to live if there is one."""
        where, columns, source = caller(), self._stream.columns, self._stream.node.source
        operator: Operator
        with at(where):
            if self._ttl is None:
                operator = make(self._by, columns)
            else:
                ttl, time = microseconds_of(self._ttl), source.event_time
                operator = expiring(make, self._by, columns, stream=source.name, time=time, ttl=ttl)
        return self._updated(operator, name, kind, where)

    def _updated(self, operator: Operator, name: str | None, kind: str, where: str) -> Stream:
        source = self._stream.node.source
        after = replace(source, key=operator.key, event_time=None, of_windows=False, updates=True)
        return self._stream._kept(operator, name, kind, where, after)

    def _check_no_ttl(self, what: str) -> None:
        if self._ttl is not None:
            raise BadConfig(f"{what} takes no ttl", got=self._ttl, fix="give the table below a ttl")
