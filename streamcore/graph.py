"""The graph of a topology: what the runtime, the test driver and the command line work on. Frozen."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import polars as pl

from streamcore.asking import AskingFormat, AskingStep, Reference
from streamcore.batch import Batch
from streamcore.contracts import Format, Sink, Step
from streamcore.errors import BadConfig
from streamcore.event_time import TimeOf
from streamcore.schema import StreamSchema
from streamcore.state.operator import Operator

AgentFunction = Callable[[AsyncIterable[Batch]], Awaitable[None]]


@dataclass(frozen=True)
class Source:
    """A stream as declared: where its events come from and what they look like.

    ``topic`` is the topic that a worker reads. ``max_lateness`` is how far event times may lag behind
    the newest seen. ``start`` is where a group without a position begins. Windows do not wait for a
    partition that was read to its end for ``idle_after``, and close by the clock after ``close_after``.
    """

    name: str
    topic: str
    schema: StreamSchema
    format: Format
    key: tuple[str, ...]
    event_time: str | None
    max_lateness: dt.timedelta
    start: Literal["earliest", "latest"]
    idle_after: dt.timedelta = dt.timedelta(minutes=1)
    close_after: dt.timedelta | None = None
    max_future: dt.timedelta | None = None
    """How far an event time may lie behind its record's time stamp."""
    time_of: TimeOf | None = None
    """Where the event time comes from, when it is no column of the event."""
    of_windows: bool = False
    """The rows are closed windows: their event time, the end, is the first instant behind them."""
    updates: bool = False
    """The rows are updates of a table: each takes the place of the one before it with the same ``key``."""


@dataclass(frozen=True)
class Union:
    """The rows of several streams with the same columns."""

    name = "union"


@dataclass(frozen=True)
class Agent:
    """A plain Faust agent over batches: it acks when its body asks for the next batch; at least once."""

    name: str
    function: AgentFunction


@dataclass(frozen=True)
class Stateful:
    """Windows, a table or a join. What comes out of it is a stream of its own, with positions of its own."""

    operator: Operator

    @property
    def name(self) -> str:
        """What the graph shows."""
        return self.operator.label


@dataclass(frozen=True)
class Late:
    """The rows that come too late for windows."""

    name = "late rows"


Part = Source | Step | AskingStep | Union | Stateful | Late | Sink | Agent


@dataclass(frozen=True)
class Node:
    """A place in the graph. ``id`` is stable and unique; ``columns`` are the user columns after it."""

    id: str
    part: Part
    inputs: tuple[str, ...]
    columns: pl.Schema
    where: str
    source: Source

    @cached_property
    def step(self) -> Step | None:
        """The part if it is a step; found once, since asking a protocol takes as long as a small frame."""
        return self.part if isinstance(self.part, Step) else None

    @cached_property
    def asks(self) -> AskingStep | None:
        """The part if it is a step that needs rows from outside."""
        return self.part if isinstance(self.part, AskingStep) else None


@dataclass(frozen=True)
class Graph:
    """A checked topology: nodes in an order in which every node follows its inputs."""

    name: str
    nodes: Mapping[str, Node]
    children: Mapping[str, tuple[str, ...]] = field(repr=False)

    @property
    def sources(self) -> dict[str, Node]:
        """Stream name to its node."""
        return {n.part.name: n for n in self.nodes.values() if isinstance(n.part, Source)}

    @property
    def sinks(self) -> dict[str, Node]:
        """Sink and agent nodes by id."""
        return {n.id: n for n in self.nodes.values() if isinstance(n.part, Sink | Agent)}

    @property
    def targets(self) -> dict[str, str]:
        """Where each sink writes, fit to be shown, by its node's id; that id where it does not say."""
        return {id: str(getattr(node.part, "target", id)) for id, node in self.sinks.items()}

    @property
    def stateful(self) -> dict[str, Node]:
        """Stateful nodes by id."""
        return {n.id: n for n in self.nodes.values() if isinstance(n.part, Stateful)}

    @property
    def references(self) -> dict[str, Reference]:
        """What is asked, by who asks: nodes, and the formats of streams by their reference's name.

        BadConfig when formats have different references of one name.
        """
        asked = {n.id: n.asks.reference for n in self.nodes.values() if n.asks is not None}
        for node in self.sources.values():
            form = node.part.format if isinstance(node.part, Source) else None
            reference = form.reference if isinstance(form, AskingFormat) else None
            if reference is None:
                continue
            if asked.setdefault(reference.name, reference) != reference:
                raise BadConfig(
                    "two references have the same name",
                    where=node.where,
                    got=reference.name,
                    fix="give one name=",
                )
        return asked

    def stage(self, node: str) -> tuple[str, ...]:
        """Ids behind *node*, in the graph's order, up to the windows: what has *node*'s positions."""
        found, todo = set(), list(self.children[node])
        while todo:
            at = todo.pop()
            if at not in found:
                found.add(at)
                todo += [] if isinstance(self.nodes[at].part, Stateful) else self.children[at]
        return tuple(n for n in self.nodes if n in found)

    def below(self, node: str) -> frozenset[str]:
        """Ids of *node* and all nodes that its rows can reach."""
        found, todo = set(), [node]
        while todo:
            at = todo.pop()
            if at not in found:
                found.add(at)
                todo += self.children[at]
        return frozenset(found)

    def text(self) -> str:
        """The graph as an indented tree, one node a line."""
        lines = [f"topology {self.name}"]

        def walk(node: str, depth: int) -> None:
            lines.append("  " * depth + label(self.nodes[node]))
            for child in self.children[node]:
                walk(child, depth + 1)

        for node in self.sources.values():
            walk(node.id, 1)
        return "\n".join(lines)

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        short = {node: f"n{i}" for i, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for node in self.nodes.values():
            left, right = ("([", "])") if isinstance(node.part, Source) else ("[", "]")
            if isinstance(node.part, Sink | Agent):
                left, right = "[(", ")]"
            text = label(node).replace('"', "#quot;")
            lines.append(f'  {short[node.id]}{left}"{text}"{right}')
        lines += [f"  {short[i]} --> {short[n.id]}" for n in self.nodes.values() for i in n.inputs]
        return "\n".join(lines)


def label(node: Node) -> str:
    """What a node is, in one line."""
    part = node.part
    if isinstance(part, Source):
        return f"stream {part.name} ({', '.join(node.columns)})"
    if isinstance(part, Agent):
        return f"agent {part.name}"
    if isinstance(part, Sink):
        return f"sink {node.id}: {type(part).__name__}"
    return part.name
