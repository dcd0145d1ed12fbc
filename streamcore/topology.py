"""The declaration that users write: streams, steps and sinks as a graph that is checked and printed.

Nothing runs here. Each method of a :class:`~streamcore.stream.Stream` adds a node and returns the stream
after it; what is wrong is a BadConfig with the line of the user's module. :meth:`Topology.freeze` checks
the whole and gives the :class:`Graph` that the runtime, the test driver and the command line work on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import polars as pl

from streamcore.aggregates.table import Maker, with_own
from streamcore.contracts import Format, Sink, WritesTopic
from streamcore.declaring import at, caller, check_name
from streamcore.errors import BadConfig
from streamcore.event_time import TimeOf
from streamcore.expressions import check_columns
from streamcore.formats import format_named
from streamcore.formats.keyed import Keyed, KeyFormat
from streamcore.graph import Agent, AgentFunction, Graph, Late, Node, Part, Source, Stateful, label
from streamcore.looked_up import check_looked_up
from streamcore.schema import Event, StreamSchema
from streamcore.stream import Stream
from streamcore.tables.declaration import check_keys
from streamcore.times import Times


class Topology:
    """A named pipeline: ``topology = sc.Topology("flights")``, then streams, steps and sinks.

    *name* is the consumer group and the prefix of the topology's own topics. *aggregates* are one's own
    (:class:`streamcore.aggregates.Aggregate`) by the names that SQL texts call them.
    """

    def __init__(self, name: str, *, aggregates: Mapping[str, Maker] | None = None) -> None:
        self._nodes: dict[str, Node] = {}
        self._optional: set[str] = set()
        """Nodes that may lead nowhere: the rest of a branch."""
        self._where = caller()
        with at(self._where):
            check_name(name, "topology")
            self._aggregates = with_own(aggregates or {})
        self.name = name

    def stream(
        self,
        name: str,
        schema: type[Event] | Mapping[str, str | pl.DataType],
        *,
        key: str | tuple[str, ...] = (),
        event_time: str | TimeOf | None = None,
        max_lateness: str | dt.timedelta = dt.timedelta(0),
        idle_after: str | dt.timedelta | None = None,
        close_after: str | dt.timedelta | None = None,
        max_future: str | dt.timedelta | None = dt.timedelta(days=1),
        format: str | Format = "json",
        topic: str | None = None,
        start: Literal["earliest", "latest"] = "earliest",
    ) -> Stream:
        """Declare a source stream; *topic* is its name unless given.

        *schema* is an Event class or ``{column: type name}``. *key* names the columns by which the
        topic is partitioned. *max_lateness* is a timedelta or a text such as "90s", "1h".

        *event_time* is a column, or ``sc.RECORD_TIME``: the record's time stamp, in a column ``record_time``,
        or ``sc.PROCESSING_TIME``: the clock when a row is read, in a column ``processing_time``. What the
        clock said is logged with the row, so a window is the same after a crash.

        In a worker, windows do not wait for a partition that has been read to its end and got no row for
        *idle_after* (a minute). With *close_after* they close by the clock once no row has come for so long:
        rows with older times that come after that, say behind an outage, are late. A row whose time lies
        more than *max_future* after its record's time stamp would close all windows: it is their dead letter.
        In processing time both are 5 seconds: by the clock, nothing is late.
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
            check_columns([*keys], parsed.columns, f"in stream {name!r}")
            times = Times.of(
                name, parsed.columns, event_time, max_lateness, idle_after, close_after, max_future
            )
            form = format_named(format) if isinstance(format, str) else format
            form.decoder(parsed)  # says now what the format can't hold
            source = Source(
                name,
                topic or name,
                parsed,
                form,
                keys,
                times.event_time,
                times.max_lateness,
                start,
                times.idle_after,
                times.close_after,
                times.max_future,
                times.time_of,
            )
            node = Node(name, source, (), times.columns, where, source)
        self._nodes[name] = node
        return Stream(self, node)

    def table(
        self,
        name: str,
        schema: type[Event] | Mapping[str, str | pl.DataType],
        *,
        key: str | tuple[str, ...],
        deleted: str | None = None,
        key_format: KeyFormat = "text",
        event_time: str | None = None,
        max_lateness: str | dt.timedelta = dt.timedelta(0),
        format: str | Format = "json",
        topic: str | None = None,
        start: Literal["earliest", "latest"] = "earliest",
    ) -> Stream:
        """Declare a changelog as the table that it tells of, e.g. a compacted topic or a CDC stream.

        A record takes the place of the one before it with the same *key*, the columns by which the topic is
        partitioned. A record without a value (a tombstone) deletes the row that its own key names, and so
        does one for which the SQL condition *deleted* is true, e.g. ``op = 'd'``.

        *key_format* is how records' keys hold the columns *key*: "text" as a Topic sink writes them, "json"
        as an object, or a plain value. The other arguments are those of :meth:`stream`. The rows are kept by
        what follows: a join, an aggregate, or ``by(key).latest()``.
        """
        with at(caller()):
            keys = (key,) if isinstance(key, str) else tuple(key)
            values = format_named(format) if isinstance(format, str) else format
            keyed = Keyed(values, keys, key_format)
            if not keys:
                raise BadConfig(f"table {name!r} has no key", fix='name its columns: key="id"')
        records = self.stream(
            name,
            schema,
            key=keys,
            event_time=event_time,
            max_lateness=max_lateness,
            format=keyed,
            topic=topic,
            start=start,
        )
        with at(records.node.where):
            check_keys(keys, records.columns)
        source = replace(records.node.source, updates=True)
        node = self._nodes[name] = replace(records.node, part=source, source=source)
        table = Stream(self, node)
        return table if deleted is None else table._deleted(deleted)

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
                stream._check_only_added("an agent")
            self._add(name, Agent(name, function), (stream.node,), stream.columns, where)
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
        check_looked_up(graph)
        topics = {node.part.topic: node for node in graph.sources.values() if isinstance(node.part, Source)}
        for node in nodes.values():
            if not children[node.id] and not isinstance(node.part, Sink | Agent):
                raise BadConfig(
                    f"{label(node)!r} leads to no sink", where=node.where, fix="end it with .to(sink)"
                )
            written = node.part.own_topic if isinstance(node.part, WritesTopic) else None
            if written in topics:
                raise BadConfig(
                    f"cycle: sink {node.id!r} writes the topic {written!r} that this topology reads",
                    where=node.where,
                    fix="write to another topic",
                )
        return graph

    def _check_times(self, graph: Graph) -> None:
        for source in graph.sources.values():
            fed = [
                id
                for id in graph.stage(source.id)
                if isinstance(part := graph.nodes[id].part, Stateful) and part.operator.timed
            ]
            if fed and source.source.event_time is None:
                raise BadConfig(
                    f"stream {source.id!r} has no event time, and {fed[0]!r} gets rows of it",
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
        inputs: Sequence[Node],
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
        before = tuple(node.id for node in inputs)
        node = Node(id, part, before, columns, where, source or inputs[0].source)
        self._nodes[id] = node
        return node

    def _free_id(self, wanted: str) -> str:
        number, free = 1, wanted
        while free in self._nodes:
            number += 1
            free = f"{wanted}-{number}"
        return free
