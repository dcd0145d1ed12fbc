"""The declaration that users write: streams, steps and sinks as a graph that is checked and printed.

Nothing runs here. Each method of a :class:`Stream` adds a node and returns the stream after it; what
is wrong is a BadConfig with the line of the user's module. :meth:`Topology.freeze` checks the whole
and gives the :class:`Graph` that the runtime, the test driver and the command line work on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Literal

import polars as pl

from streamcore.contracts import Format, Sink, Step
from streamcore.declaring import at, caller, check_name
from streamcore.durations import duration
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns, condition
from streamcore.formats import format_named
from streamcore.graph import Agent, AgentFunction, Graph, Late, Node, Part, Source, Union, label
from streamcore.schema import Event, StreamSchema, type_named
from streamcore.transforms.columns import AddColumn, Cast, Drop, Filter, Rename, Select
from streamcore.transforms.functions import FlatMapRows, MapBatches, MapRows, RowFunction, RowsFunction
from streamcore.validation import Rule, Validate
from streamcore.windowed import WindowedStream
from streamcore.windows.assigners import WindowKind

Returns = type[Event] | Mapping[str, str] | None


class Topology:
    """A named pipeline: ``topology = sc.Topology("flights")``, then streams, steps and sinks.

    *name* is the consumer group and the prefix of the topology's own topics.
    """

    def __init__(self, name: str) -> None:
        self._nodes: dict[str, Node] = {}
        self._optional: set[str] = set()
        """Nodes that may lead nowhere: the rest of a branch."""
        self._where = caller()
        with at(self._where):
            check_name(name, "topology")
        self.name = name

    def stream(
        self,
        name: str,
        schema: type[Event] | Mapping[str, str],
        *,
        key: str | tuple[str, ...] = (),
        event_time: str | None = None,
        max_lateness: str | dt.timedelta = dt.timedelta(0),
        idle_after: str | dt.timedelta = dt.timedelta(minutes=1),
        close_after: str | dt.timedelta | None = None,
        max_future: str | dt.timedelta | None = dt.timedelta(days=1),
        format: str | Format = "json",
        topic: str | None = None,
        start: Literal["earliest", "latest"] = "earliest",
    ) -> Stream:
        """Declare a source stream; *topic* is its name unless given.

        *schema* is an Event class or ``{column: type name}``. *key* names the columns by which the
        topic is partitioned. *max_lateness* is a timedelta or a text such as "90s", "1h".

        In a worker, windows do not wait for a partition that has been read to its end and got no row for
        *idle_after*. With *close_after* they close by the clock once no row has come for so long: rows
        with older times that come after that, say behind an outage, are late. A row whose time lies more
        than *max_future* after its record's time stamp would close all windows: it is their dead letter.
        """
        where = caller()
        with at(where):
            check_name(name, "stream")
            if name in (n.part.name for n in self._nodes.values() if isinstance(n.part, Source)):
                raise BadConfig("two streams have the same name", got=name, fix="rename one of them")
            parsed = (
                StreamSchema.from_columns(schema) if isinstance(schema, Mapping) else StreamSchema.of(schema)
            )
            keys = (key,) if isinstance(key, str) else tuple(key)
            check_columns(
                [*keys, *([event_time] if event_time else [])], parsed.columns, f"in stream {name!r}"
            )
            if event_time and not _is_time(parsed.columns[event_time]):
                raise BadConfig(
                    f"event_time {event_time!r} must be a time",
                    got=str(parsed.columns[event_time]),
                    allowed=["Datetime", "Date", "Int64 (milliseconds since 1970)"],
                )
            form = format_named(format) if isinstance(format, str) else format
            form.decoder(parsed)  # says now what the format can't hold
            source = Source(
                name,
                topic or name,
                parsed,
                form,
                keys,
                event_time,
                duration(max_lateness),
                start,
                duration(idle_after),
                None if close_after is None else duration(close_after),
                None if max_future is None else duration(max_future),
            )
            node = Node(name, source, (), parsed.columns, where, source)
        self._nodes[name] = node
        return Stream(self, node)

    def agent(self, stream: Stream) -> Callable[[AgentFunction], AgentFunction]:
        """Decorator: run an async function over the stream's batches as a plain Faust agent.

        The function gets an async iterator of :class:`streamcore.batch.Batch`. A batch is settled when
        the function asks for the next one; an exception stops the worker.
        """
        where = caller()

        def declare(function: AgentFunction) -> AgentFunction:
            name = function.__name__
            with at(where):
                check_name(name, "agent")
            self._add(name, Agent(name, function), (stream,), stream.columns, where)
            return function

        return declare

    def freeze(self) -> Graph:
        """The checked graph. BadConfig when a stream leads to no sink, or a sink feeds its own source."""
        used = {before for node in self._nodes.values() for before in node.inputs}
        nodes = {id: node for id, node in self._nodes.items() if id in used or id not in self._optional}
        children: dict[str, list[str]] = {n: [] for n in nodes}
        for node in nodes.values():
            for before in node.inputs:
                children[before].append(node.id)
        graph = Graph(self.name, nodes, {n: tuple(c) for n, c in children.items()})
        if not graph.sources:
            raise BadConfig(
                f"topology {self.name!r} has no stream", where=self._where, fix="add topology.stream(…)"
            )
        self._check_times(graph)
        topics = {node.part.topic: node for node in graph.sources.values() if isinstance(node.part, Source)}
        for node in nodes.values():
            if not children[node.id] and not isinstance(node.part, Sink | Agent):
                raise BadConfig(
                    f"{label(node)!r} leads to no sink", where=node.where, fix="end it with .to(sink)"
                )
            written = getattr(node.part, "topic", None) if isinstance(node.part, Sink) else None
            if written in topics:
                raise BadConfig(
                    f"cycle: sink {node.id!r} writes the topic {written!r} that this topology reads",
                    where=node.where,
                    fix="write to another topic",
                )
        return graph

    def _check_times(self, graph: Graph) -> None:
        for source in graph.sources.values():
            fed = [id for id in graph.stage(source.id) if id in graph.stateful]
            if fed and source.source.event_time is None:
                raise BadConfig(
                    f"stream {source.id!r} has no event time, and window {fed[0]!r} gets rows of it",
                    where=source.where,
                    fix='declare it: stream(…, event_time="column")',
                )
            late = [
                graph.nodes[id] for id in graph.stage(source.id) if isinstance(graph.nodes[id].part, Late)
            ]
            if late and not fed:
                raise BadConfig(
                    f"no window gets rows of stream {source.id!r}, so none is late",
                    where=late[0].where,
                    fix="give it a window, or take late() out",
                )

    def text(self) -> str:
        """The checked graph as a tree of lines."""
        return self.freeze().text()

    def mermaid(self) -> str:
        """The checked graph as a Mermaid flowchart."""
        return self.freeze().mermaid()

    def _add(
        self,
        id: str,
        part: Part,
        inputs: tuple[Stream, ...],
        columns: pl.Schema,
        where: str,
        source: Source | None = None,
    ) -> Node:
        if id in self._nodes:
            raise BadConfig(
                "two parts of the topology have the same name",
                where=where,
                got=id,
                fix="give one of them name=",
            )
        node = Node(
            id, part, tuple(s.node.id for s in inputs), columns, where, source or inputs[0].node.source
        )
        self._nodes[id] = node
        return node

    def _free_id(self, wanted: str) -> str:
        number, free = 1, wanted
        while free in self._nodes:
            number += 1
            free = f"{wanted}-{number}"
        return free


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
        return self._step("filter", lambda: Filter(condition, self.columns), name)

    def add_column(self, column: str, expression: str, *, name: str | None = None) -> Stream:
        """Add *column* with the value of an SQL *expression*, e.g. ``case when a < 3 then 'b' end``."""
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
        """Check *rules* (see ``sc.rules``); *on_fail* is for rules that don't say it themselves."""
        return self._step("validate", lambda: Validate.of(rules, self.columns, on_fail, flag_column), name)

    def branch(self, **conditions: str) -> dict[str, Stream]:
        """Split by SQL conditions: a row goes to the first one that is true, else to "otherwise"."""
        where = caller()
        names = dict.fromkeys(conditions, "")
        with at(where):
            if not conditions or "otherwise" in conditions:
                raise BadConfig("branch needs conditions by name; 'otherwise' is the rest")
            before: list[str] = []
            for branch, text in conditions.items():
                condition(text, self.columns)
                names[branch] = " and ".join([f"({text})", *before])
                before.append(f"not coalesce(({text}), false)")
            names["otherwise"] = " and ".join(before)
        branches = {
            branch: self._step("branch", lambda t=text: Filter(t, self.columns), None, f"branch-{branch}")  # type: ignore[misc]
            for branch, text in names.items()
        }
        self._topology._optional.add(branches["otherwise"].node.id)
        return branches

    def union(self, *others: Stream, name: str | None = None) -> Stream:
        """The rows of this stream and *others*; the columns must be the same."""
        where = caller()
        with at(where):
            for other in others:
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
        return Stream(topology, topology._add(id, Union(), (self, *others), self.columns, where))

    def late(self, *, name: str | None = None) -> Stream:
        """The rows of this stream that come too late for its windows, e.g. to keep and replay them."""
        topology, where = self._topology, caller()
        with at(where):
            if self.node.source.event_time is None or self.node.source.of_windows:
                raise BadConfig(
                    "no row of this stream is late", fix="take the late rows of a stream with an event time"
                )
        id = name or topology._free_id(f"{self.node.source.name}/late")
        return Stream(topology, topology._add(id, Late(), (self,), self.columns, where))

    def window(self, kind: WindowKind) -> WindowedStream:
        """Windows of event time: ``sc.tumbling("1h")``, ``sc.hopping(…)`` or ``sc.session(…)``."""
        return WindowedStream(self, kind, ())

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
        self._topology._add(sink.name, sink, (self,), self.columns, where)

    def _step(
        self, kind: str, make: Callable[[], Step], name: str | None, label: str | None = None
    ) -> Stream:
        where = caller()
        with at(where):
            step = make()
            columns = step.output(self.columns)
        id = name or self._topology._free_id(f"{self.node.source.name}/{label or kind}")
        return Stream(self._topology, self._topology._add(id, step, (self,), columns, where))


def _columns(returns: Returns) -> pl.Schema | None:
    return None if returns is None else _schema(returns).columns


def _schema(declared: type[Event] | Mapping[str, str]) -> StreamSchema:
    if isinstance(declared, Mapping):
        return StreamSchema.from_columns(declared)
    return StreamSchema.of(declared)


def _is_time(dtype: pl.DataType) -> bool:
    return dtype == pl.Int64 or isinstance(dtype, pl.Datetime | pl.Date)


def _types(columns: pl.Schema) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in columns.items())
