"""A stream as users declare it: rows on their way, and the steps that they pass.

Nothing runs here. What is wrong is a BadConfig with the line of the user's module.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from streamcore.asking import AskingStep, Reference
from streamcore.contracts import Sink, Step
from streamcore.declaring import at, caller
from streamcore.durations import microseconds_of
from streamcore.errors import BadConfig
from streamcore.expressions import condition
from streamcore.graph import Late, Node, Source, Stateful, Union
from streamcore.grouped import GroupedStream
from streamcore.joined import AsOf, How, On, Terms, Within, join_of, joined, pairs_of
from streamcore.schema import Event, StreamSchema, type_named
from streamcore.state.operator import Operator
from streamcore.tables.changes import Changelog, Deleted, FilterUpdates, check_sink
from streamcore.tables.declaration import retractions_of
from streamcore.tables.lookup import Lookup, OutsideLookup
from streamcore.transforms.columns import AddColumn, Cast, Drop, Filter, Rename, Select
from streamcore.transforms.functions import FlatMapRows, MapBatches, MapRows, RowFunction, RowsFunction
from streamcore.transforms.masks import Mask, MaskColumns
from streamcore.uniqueness import unique_rows
from streamcore.validation import Rule, Validate
from streamcore.windowed import AnyKind, WindowedStream
from streamcore.windows.assigners import WindowKind

if TYPE_CHECKING:
    from streamcore.topology import Topology

Returns = type[Event] | Mapping[str, str] | None
_FOLLOWS_UPDATES = ("filter", "add_column", "rename", "select", "drop", "changelog")
"""Steps that may stand between a table and its sink."""


class Stream:
    """Rows on their way through a topology; every method returns the stream after one more step.

    Steps take ``name=`` to fix the id under which their dead letters are kept; otherwise it is the
    stream's name and the kind of the step.
    """

    def __init__(self, topology: Topology, node: Node) -> None:
        self._topology = topology
        self.node = node

    @property
    def columns(self) -> pl.Schema:
        """Names and types of the user columns here."""
        return self.node.columns

    def filter(self, condition: str, *, name: str | None = None) -> Stream:
        """Keep the rows for which the SQL *condition* is true."""
        kind = FilterUpdates if self.node.source.updates else Filter
        return self._step("filter", lambda: kind(condition, self.columns), name)

    def add_column(self, column: str, expression: str, *, name: str | None = None) -> Stream:
        """Add *column* with the value of an SQL *expression*, e.g. ``case when a < 3 then 'b' end``."""
        if self.node.source.updates and column in self.node.source.key:
            raise BadConfig("the key of a table can't be given other values", where=caller(), got=column)
        return self._step("add_column", lambda: AddColumn(column, expression, self.columns), name)

    def rename(self, mapping: Mapping[str, str], *, name: str | None = None) -> Stream:
        """Rename columns: ``{old: new}``."""
        return self._step("rename", lambda: Rename(dict(mapping)), name)

    def cast_type(self, types: Mapping[str, str], *, name: str | None = None) -> Stream:
        """Change types: ``{"age": "int64"}``; rows whose value does not fit become dead letters."""
        return self._step("cast_type", lambda: Cast({c: type_named(t) for c, t in types.items()}), name)

    def select(self, *columns: str, name: str | None = None) -> Stream:
        """Keep these columns in this order."""
        return self._step("select", lambda: Select(columns), name)

    def drop(self, *columns: str, name: str | None = None) -> Stream:
        """Remove these columns."""
        return self._step("drop", lambda: Drop(columns), name)

    def mask(self, masks: Mapping[str, Mask], *, name: str | None = None) -> Stream:
        """Put masks (see ``sc.masks``) over columns: ``{"email": sc.masks.Hash("${env:KEY}")}``.

        A null stays null; what is masked is a string.
        """
        return self._step("mask", lambda: MaskColumns(dict(masks)), name)

    def map_batches(
        self,
        function: Callable[[pl.DataFrame], pl.DataFrame],
        *,
        returns: Returns = None,
        name: str | None = None,
    ) -> Stream:
        """Apply a pure function to the frame; it must keep the hidden columns and the rows' order.

        *returns* declares the columns of its result when they differ. It must treat each row by
        itself: a batch may be cut anywhere.
        """
        return self._step("map_batches", lambda: MapBatches(function, _columns(returns)), name)

    def map(self, function: RowFunction, *, returns: Returns = None, name: str | None = None) -> Stream:
        """Apply a function to each row (a dict), which returns a dict or an Event. Slow: Python per row."""
        return self._step("map", lambda: MapRows(function, _columns(returns)), name)

    def flat_map(self, function: RowsFunction, *, returns: Returns = None, name: str | None = None) -> Stream:
        """Like :meth:`map`, for a function that returns any number of rows."""
        return self._step("flat_map", lambda: FlatMapRows(function, _columns(returns)), name)

    def validate(
        self,
        *rules: Rule,
        on_fail: str | None = None,
        flag_column: str | None = None,
        name: str | None = None,
    ) -> Stream:
        """Check *rules* (see ``sc.rules``); *on_fail* is for rules that don't say it themselves.

        ``sc.rules.unique`` looks at the rows that no other rule has taken out.
        """
        if any(rule.rule_type == "unique" for rule in rules):
            return unique_rows(self, rules, on_fail, flag_column, name)
        return self._step("validate", lambda: Validate.of(rules, self.columns, on_fail, flag_column), name)

    def branch(self, **conditions: str) -> dict[str, Stream]:
        """Split by SQL conditions: a row goes to the first one that is true, else to "otherwise"."""
        where = caller()
        names = dict.fromkeys(conditions, "")
        with at(where):
            self._check_only_added("branch")
            if not conditions or "otherwise" in conditions:
                raise BadConfig("branch needs conditions by name; 'otherwise' is the rest")
            before: list[str] = []
            for branch, text in conditions.items():
                condition(text, self.columns)
                names[branch] = " and ".join([f"({text})", *before])
                before.append(f"not coalesce(({text}), false)")
            names["otherwise"] = " and ".join(before)
        branches = {
            branch: self._step("branch", partial(Filter, text, self.columns), None, f"branch-{branch}")
            for branch, text in names.items()
        }
        self._topology._optional.add(branches["otherwise"].node.id)
        return branches

    def union(self, *others: Stream, name: str | None = None) -> Stream:
        """The rows of this stream and *others*; the columns must be the same."""
        where = caller()
        with at(where):
            for other in (self, *others):
                other._check_only_added("union")
                if other._topology is not self._topology:
                    raise BadConfig("union joins streams of one topology")
                if dict(other.columns) != dict(self.columns):
                    raise BadConfig(
                        f"union of streams with other columns: {other.node.id!r}",
                        got=_types(other.columns),
                        allowed=[_types(self.columns)],
                        fix="select, rename or cast them to the same columns",
                    )
        topology = self._topology
        id = name or topology._free_id(f"{self.node.source.name}/union")
        return Stream(
            topology, topology._add(id, Union(), [self.node, *(s.node for s in others)], self.columns, where)
        )

    def late(self, *, name: str | None = None) -> Stream:
        """The rows of this stream that come too late for its windows, e.g. to keep and replay them."""
        topology, where = self._topology, caller()
        with at(where):
            self._check_only_added("late")
            if self.node.source.event_time is None or self.node.source.of_windows:
                raise BadConfig(
                    "no row of this stream is late", fix="take the late rows of a stream with an event time"
                )
        id = name or topology._free_id(f"{self.node.source.name}/late")
        return Stream(topology, topology._add(id, Late(), (self.node,), self.columns, where))

    def window(self, kind: AnyKind, *, late_updates: str | dt.timedelta | None = None) -> WindowedStream:
        """Windows of event time: ``sc.tumbling("1h")``, ``sc.hopping(…)``, ``sc.session(…)``,
        ``sc.sliding(…)`` and ``sc.global_window()``; ``sc.counted(100)`` are windows of so many rows.

        With *late_updates*, e.g. "2h", a window is kept for that long after it is over, and rows that are
        late by no more than that update it: what comes of it is a table.
        """
        with at(caller()):
            self._check_only_added("a window")
            late = 0 if late_updates is None else microseconds_of(late_updates)
        return WindowedStream(self, kind, (), late)

    def by(self, *columns: str, ttl: str | dt.timedelta | None = None) -> GroupedStream:
        """The rows in groups by the values of *columns*, without windows, e.g. to :meth:`aggregate` them.

        With *ttl*, e.g. "7d", a group leaves its table when event time has passed its newest row by that,
        and begins anew with the next row. Late rows are left out then, as in windows.
        """
        return GroupedStream(self, columns, ttl)

    def join(
        self,
        other: Stream,
        *,
        on: On,
        within: Within | None = None,
        as_of: AsOf | None = None,
        window: WindowKind | None = None,
        where: str | None = None,
        how: How = "inner",
        name: str | None = None,
    ) -> Stream:
        """Rows of this stream with those of *other* whose columns *on* are equal, e.g. ``{"seller": "id"}``.

        Of two streams each pair comes out once, when the later of its rows comes. With *within* the time of
        the other row less that of this one is in between: "1h" is ``("-1h", "1h")``. Without it all rows
        are kept for good. *where* is a condition over the columns of both.

        With *as_of* a row gets the newest row of *other* that is not newer than itself, and not older than
        so long ("1h"; True: however old). It comes out when the watermark has passed its time.

        With *window*, ``sc.tumbling("1h")`` or ``sc.hopping(…)``, the rows that are in the same window, once
        for each that holds both, with ``window_start`` and ``window_end``.

        With a table (``by(…).aggregate(…)``), by its key, each row of this stream gets the table's row as it
        is when the row comes. With ``how="left"`` rows that find none come out too, with nulls; of two
        streams, for which that needs *within*, when nothing can match them any more. Of two streams it may
        be "right", which is the left join with the sides changed, or "full".

        Two tables are joined by their keys, or by the key of *other* alone ("inner" and "left"): what comes
        out is a table by the key of this one.
        """
        declared = caller()
        with at(declared):
            if other._topology is not self._topology:
                raise BadConfig("join takes a stream of the same topology")
            join = join_of(self.node, other.node, Terms(on, within, as_of, window, where, how))
            node = joined(self._topology, join, name, declared)
        return Stream(self._topology, node)

    def lookup(
        self, reference: pl.DataFrame | Reference, *, on: On, how: How = "left", name: str | None = None
    ) -> Stream:
        """Add the columns of *reference*, e.g. ``pl.read_csv("airports.csv")``, where *on* is equal.

        A frame has one row a key, and is part of the topology: rows that are read again after a crash must
        find the same one. With ``how="inner"`` rows that have none leave.

        A reference that changes is one of ``sc.references``, looked up by its key. What a row finds is what
        is there (or remembered) when it is processed, so it may differ when rows are processed again.
        """
        if how not in ("inner", "left"):
            raise BadConfig("there is no such lookup", where=caller(), got=how, allowed=["left", "inner"])
        outer, columns = how == "left", self.columns
        if isinstance(reference, pl.DataFrame):
            return self._step("lookup", lambda: Lookup(reference, pairs_of(on), outer, columns), name)
        return self._step("lookup", lambda: OutsideLookup(reference, pairs_of(on), outer, columns), name)

    def changelog(
        self, *, before: bool = False, op: str = "op", number: str = "number", name: str | None = None
    ) -> Stream:
        """The updates of a table as rows that are only added, for sinks that can't update.

        Column *op* says what happened, "upsert" or "delete"; *number* grows with each update of a key.
        An update that a later one replaced soon after may be left out.

        With *before* each change says what it takes back and what it puts there instead: *op* is "insert",
        "update_before" (the row as it was), "update_after", or "delete" (the row as it was). That needs
        state, which has a log of its own.
        """
        where = caller()
        with at(where):
            if not self.node.source.updates:
                raise BadConfig("there are no updates here", fix="changelog() follows a table")
            after = replace(self.node.source, updates=False, key=())
            if before:
                retractions = retractions_of(self.node.source.key, self.columns, op, number)
                return self._kept(retractions, name, "changelog", where, after)
        return self._step("changelog", lambda: Changelog(op, number), name, after=after)

    def to(self, sink: Sink) -> None:
        """Write the rows to *sink*; its name must be unique in the topology."""
        where = caller()
        with at(where):
            if not isinstance(sink, Sink):
                raise BadConfig(
                    "to() takes a sink", got=type(sink).__name__, fix="e.g. sc.sinks.Parquet('out')"
                )
            if not sink.name.strip() or not sink.name.isprintable() or len(sink.name) > 250:
                raise BadConfig("this can't be the name of a sink", got=sink.name, fix="give it name=")
            sink.check(self.columns)
            if self.node.source.updates:
                check_sink(sink, self.node.source.key)
        self._topology._add(sink.name, sink, (self.node,), self.columns, where)

    def _step(
        self,
        kind: str,
        make: Callable[[], Step | AskingStep],
        name: str | None,
        label: str | None = None,
        after: Source | None = None,
    ) -> Stream:
        where, source = caller(), self.node.source
        with at(where):
            if kind not in (*_FOLLOWS_UPDATES, "deleted"):
                self._check_only_added(kind)
            step = make()
            columns = step.output(self.columns)
            if isinstance(step, Rename) and source.event_time is not None:
                source = replace(source, event_time=step.mapping.get(source.event_time, source.event_time))
            if source.updates and after is None:
                after = replace(source, key=_key_after(step, source.key, columns))
        id = name or self._topology._free_id(f"{source.name}/{label or kind}")
        return Stream(
            self._topology, self._topology._add(id, step, (self.node,), columns, where, after or source)
        )

    def _deleted(self, condition: str) -> Stream:
        """The rows, of which those for which *condition* is true delete what has their key."""
        after = self.node.source
        return self._step("deleted", lambda: Deleted(condition, self.columns), None, after=after)

    def _kept(self, operator: Operator, name: str | None, kind: str, where: str, after: Source) -> Stream:
        """The stream of what *operator*, declared at *where*, makes of this one's rows."""
        id = name or self._topology._free_id(f"{self.node.source.name}/{kind}")
        node = self._topology._add(id, Stateful(operator), (self.node,), operator.columns, where, after)
        return Stream(self._topology, node)

    def _check_only_added(self, what: str) -> None:
        """BadConfig where rows are updates of a table, which *what* can't follow."""
        if self.node.source.updates:
            raise BadConfig(
                f"{what} can't follow a table, whose rows are updates",
                allowed=[*_FOLLOWS_UPDATES, "by(…).aggregate", "to"],
                fix="do it before by(…), or behind changelog()",
            )


def _key_after(step: Step | AskingStep, key: tuple[str, ...], columns: pl.Schema) -> tuple[str, ...]:
    """What the columns of a table's *key* are called behind *step*; BadConfig when one is gone."""
    renamed = step.mapping if isinstance(step, Rename) else {}
    after = tuple(renamed.get(name, name) for name in key)
    for name in after:
        if name not in columns:
            raise BadConfig("a table's key must stay", got=name, fix="keep the column up to the sink")
    return after


def _columns(returns: Returns) -> pl.Schema | None:
    return None if returns is None else _schema(returns).columns


def _schema(declared: type[Event] | Mapping[str, str]) -> StreamSchema:
    if isinstance(declared, Mapping):
        return StreamSchema.from_columns(declared)
    return StreamSchema.of(declared)


def _types(columns: pl.Schema) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in columns.items())
