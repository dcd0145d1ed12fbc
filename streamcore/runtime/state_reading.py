"""Reads the state of a topology from its logs, beside the workers that keep it or after they have ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

import polars as pl

from streamcore.asking import nothing
from streamcore.batch import PartitionId, Range
from streamcore.contracts import Log
from streamcore.errors import BadConfig, did_you_mean
from streamcore.graph import Graph
from streamcore.passage import operator_of
from streamcore.runtime.kept_state import KeptState
from streamcore.runtime.state_logs import StateLog, definition_of, emission_topic, log_topic
from streamcore.state.log_record import Upstream, decode
from streamcore.state.snapshot import is_snapshot, reads_in
from streamcore.stateful_task import StatefulTask

OnRecords = Callable[[int, int], None]
"""Told how many records of how many have been read."""


class Kept(NamedTuple):
    """A stateful node and one log of it: each replay of files has one of its own."""

    node: str
    what: str
    topic: str
    bounds: Mapping[int, Range]

    @property
    def records(self) -> int:
        """How many records the log has."""
        return sum(end - start for start, end in self.bounds.values())


async def kept_states(graph: Graph, log: Log) -> list[Kept]:
    """The stateful nodes of *graph* with their logs in *log*; those of replays have names of their own."""
    topics, found = await log.topics(), []
    for node in graph.stateful:
        base = log_topic(graph, node)
        for topic in topics:
            if topic == base or topic.startswith(f"{base}.replay-"):
                found.append(Kept(node, operator_of(graph, node).label, topic, await log.bounds(topic)))
    return found


def chosen(states: list[Kept], graph: Graph, node: str, topic: str | None) -> Kept:
    """The state of *node*, in the log *topic* if it has several. BadConfig when there is no such one."""
    if node not in graph.stateful:
        names = sorted(graph.stateful)
        raise BadConfig(
            f"the topology keeps no state {node!r}", got=node, allowed=names, fix=did_you_mean(node, names)
        )
    mine = [kept for kept in states if kept.node == node and topic in (None, kept.topic)]
    if len(mine) == 1:
        return mine[0]
    topics = [kept.topic for kept in states if kept.node == node]
    if not topics:
        raise BadConfig(f"{node!r} has no log yet", fix="run the topology first, or give --broker")
    raise BadConfig(f"{node!r} has several logs", got=topic, allowed=topics, fix="choose one with --log")


class Size(NamedTuple):
    """How large the state of a partition is: the rows that :func:`read_state` shows, and bytes in memory."""

    partition: int
    rows: int
    bytes: int
    log_records: int


async def read_state(graph: Graph, kept: Kept, log: Log, on_records: OnRecords) -> pl.DataFrame:
    """What the state of *kept* holds, by its log as far as it goes now. Permanent as a worker raises it."""
    return pl.concat([task.shown() async for _, task in _tasks(graph, kept, log, on_records)], how="vertical")


async def read_sizes(graph: Graph, kept: Kept, log: Log, on_records: OnRecords) -> list[Size]:
    """The sizes of the partitions of *kept*; otherwise as :func:`read_state`."""
    return [
        Size(number, task.shown().height, task.nbytes, len(range(*kept.bounds[number])))
        async for number, task in _tasks(graph, kept, log, on_records)
    ]


async def _tasks(
    graph: Graph, kept: Kept, log: Log, on_records: OnRecords
) -> AsyncIterator[tuple[int, StatefulTask]]:
    """Each partition's number and task, as its log leaves it."""
    total, done = kept.records, 0
    upstream, definition = tuple(await _upstream(kept, log)), definition_of(graph, kept.node)
    for number, bounds in sorted(kept.bounds.items()):
        described = StateLog(kept.node, kept.topic, len(kept.bounds), (), upstream, definition)
        emissions = PartitionId(emission_topic(graph.name, kept.node), number, "read")
        state = KeptState(described, emissions, bounds.start, 0)
        state.begin(graph, (), {}, lambda: 0.0)
        async for chunk in log.scan(kept.topic, number, *bounds):
            for _ in state.on_chunk(chunk, nothing):
                pass  # what came out is where its sinks are
            done += len(chunk)
            on_records(done, total)
        yield number, state.task


async def _upstream(kept: Kept, log: Log) -> set[Upstream]:
    """The upstream partitions that the log has records of: time stands where the last of them is."""
    found: set[Upstream] = set()
    for number, bounds in kept.bounds.items():
        async for chunk in log.scan(kept.topic, number, *bounds):
            for value in chunk.values():
                if value is not None and is_snapshot(value):
                    found |= reads_in(value).keys()
                else:
                    found.add(decode(value, heads_only=True).upstream)
    return found
