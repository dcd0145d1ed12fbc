"""The logs of a topology's windows, tables and joins: its own topics, with the rows that they are made of.

A log is at once the way of the rows to the worker that keeps their keys (a repartition), and what the
state is made of again after a restart (a changelog).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.batch import Batch, PartitionId, Range, TimedBatch
from streamcore.contracts import Log, Records
from streamcore.errors import BadConfig, Permanent
from streamcore.event_time import BEGINNING
from streamcore.graph import Graph, Late, Node, label
from streamcore.passage import Logged, operator_of
from streamcore.runtime.declarations import Declaration, check_declarations, declared_logs
from streamcore.sinks.appending import AppendingWriter
from streamcore.sinks.topic_records import record_keys
from streamcore.state.log_record import Entry, Upstream, decode, encode, entries_of, pieces_of
from streamcore.state.snapshot import is_snapshot, reads_in
from streamcore.transport.partitioning import partition_of

LOG_CONFIG = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
RECORD_BYTES = 512 << 10
"""About how large a record gets, before compression."""
_DECLARED = ("text", "event_time", "max_lateness", "max_future")
_SCANS = 8
"""Partitions of a log that are looked at side by side."""
_LOOK_BACK = 256
"""Records of the first look at the end of a log; more and more until it suffices."""


@dataclass(frozen=True, slots=True)
class StateLog:
    """The log of *node*: its *topic* with *partitions* by the columns *by*, and what feeds it.

    *emission_id* names the stream of what comes out; without it the topic's id does.
    """

    node: str
    topic: str
    partitions: int
    by: tuple[str, ...]
    upstream: tuple[Upstream, ...]
    definition: str
    emission_id: str = ""

    def emissions(self, topology: str, source: PartitionId) -> PartitionId:
        """The stream of what comes out of the log's partition *source*."""
        id = self.emission_id or f"node/{source.topic_id}"
        return PartitionId(emission_topic(topology, self.node), source.partition, id)


def emission_topic(topology: str, node: str) -> str:
    """What the rows of *node* are positioned in; not a topic of the broker."""
    return f"{topology}/{node}"


async def made_logs(
    graph: Graph, log: Log, streams: Mapping[str, str], read: Mapping[str, int], replay: str = ""
) -> dict[str, StateLog]:
    """The log of each node of *graph* by its topic, made in *log* where it does not exist yet.

    *streams* maps topics to names of streams, *read* to their numbers of partitions. *replay* names what a
    replay reads: it has logs of its own. BadConfig when two nodes would have one log, and as
    :func:`check_declarations` for logs that were made by another declaration.
    """
    found: dict[str, StateLog] = {}
    # Asked first: another worker that starts beside this one makes a log before it declares it.
    known = () if replay else await declared_logs(log, graph.name)
    gone: set[str] = set()
    counts = {emission_topic(graph.name, w): 0 for w in graph.stateful} | dict(read)
    for node in graph.stateful:
        topic, own = log_topic(graph, node, replay), _own_id(graph, node, replay)
        if topic in found:
            raise BadConfig(
                "the logs of two windows, tables or joins would have the same name",
                got=topic,
                where=graph.nodes[node].where,
                fix="give one of them another name=",
            )
        feeding = [t for t in counts if node in fed_states(graph, streams, t)]
        wanted = 1 if replay or not operator_of(graph, node).by else max(counts[t] for t in feeding)
        if topic in known and not await log.bounds(topic):
            gone.add(topic)  # and not made, so that the next start is refused as well
        else:
            await log.create(topic, wanted, LOG_CONFIG)
        partitions = len(await log.bounds(topic))
        counts[emission_topic(graph.name, node)] = partitions
        upstream = tuple((t, number) for t in sorted(feeding) for number in range(counts[t]))
        found[topic] = StateLog(
            node,
            topic,
            partitions,
            operator_of(graph, node).by,
            upstream,
            definition_of(graph, node),
            own and f"node/{own}",
        )
    if not replay:
        declared = [_declaration(graph, own) for own in found.values()]
        await check_declarations(log, graph.name, declared, gone)
    return found


def log_topic(graph: Graph, node: str, replay: str = "") -> str:
    """The topic of a node's log; *replay* as for :func:`made_logs`."""
    own = _own_id(graph, node, replay)
    suffix = f".replay-{own[:8]}" if own else ""
    return f"{graph.name}.{re.sub('[^a-zA-Z0-9._-]', '-', node)}.log{suffix}"


def _own_id(graph: Graph, node: str, replay: str) -> str:
    return _digest(f"{declared(graph, node)} {replay}") if replay else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fed_states(graph: Graph, streams: Mapping[str, str], topic: str) -> tuple[str, ...]:
    """The stateful nodes that rows of *topic* (or of the emissions of a node) go to."""
    if topic in streams:
        node = graph.sources[streams[topic]].id
    else:
        node = topic.removeprefix(f"{graph.name}/")
        if node not in graph.stateful:
            return ()
    return tuple(n for n in graph.stage(node) if n in graph.stateful)


def definition_of(graph: Graph, node: str) -> str:
    """Names what *node* computes of what: records of its log say by which declaration they were made."""
    return _digest(declared(graph, node))


def declared(graph: Graph, node: str) -> str:
    """What *node* computes of what, as text: equal in each process for the same declaration."""
    before = _before(graph, node)
    steps = [(step.id, label(step), *(getattr(step.part, of, "") for of in _DECLARED)) for step in before]
    return f"{operator_of(graph, node).definition} {steps}"


def _before(graph: Graph, node: str) -> list[Node]:
    return [other for other in graph.nodes.values() if other.id != node and node in graph.below(other.id)]


def _declaration(graph: Graph, log: StateLog) -> Declaration:
    steps = []
    for step in _before(graph, log.node):
        extra = [str(getattr(step.part, of, "") or "") for of in _DECLARED]
        more = [text for text in extra if text and text not in label(step)]
        steps.append(f"{label(step)} ({', '.join(more)})" if more else label(step))
    where = graph.nodes[log.node].where
    computes = str(operator_of(graph, log.node).definition)
    return Declaration(log.node, log.topic, log.partitions, log.definition, computes, tuple(steps), where)


class StateLogWriter(AppendingWriter):
    """Writes rows to the log of one node, as a sink that stores positions.

    No former owner of a partition is fenced: what it still writes is what the log has or gets anyway.
    """

    def __init__(
        self,
        target: StateLog,
        log: Log,
        clock: Callable[[], float],
        crash_point: Callable[[str], None],
    ) -> None:
        super().__init__(log, target.topic, crash_point, "state_log.confirmed")
        self._target, self._clock = target, clock
        self.logged: dict[PartitionId, Logged] = {}
        """What the log had of each partition when it was taken over."""

    async def start(self) -> None:
        """Permanent when the log is gone."""
        if not await self._log.bounds(self._topic):
            raise Permanent(f"topic {self._topic} does not exist", fix="start the worker again, it makes it")

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """Where the log stands, by its own records: the least of its partitions."""
        wanted = {(source.topic, source.partition): source for source in partitions}
        scans, bounds = asyncio.Semaphore(_SCANS), await self._log.bounds(self._topic)

        async def ends_of(number: int) -> dict[Upstream, Logged]:
            async with scans:
                return await _ends(self._log, self._topic, number, bounds[number], set(wanted))

        ends = await asyncio.gather(*map(ends_of, range(self._target.partitions)))
        for upstream, source in wanted.items():
            start = Logged(partitions[source])
            self.logged[source] = min(end.get(upstream, start) for end in ends)
            self._confirmed[source] = self.logged[source].position
        return {source: self.logged[source].position for source in partitions}

    async def before(self, source: PartitionId, position: int) -> Logged:
        """Where the watermark of *source* is known, at *position* or before it."""
        upstream = (source.topic, source.partition)
        bounds = await self._log.bounds(self._topic)
        found = await _ends(self._log, self._topic, 0, bounds[0], {upstream}, at_most=position)
        return found.get(upstream, Logged(position))

    def _records(self, batches: Sequence[Batch]) -> Records | None:
        values, partitions = [], []
        for batch in batches:
            assert isinstance(batch, TimedBatch)
            for entry in self._entries(batch):
                for number, share in enumerate(self._shares(entry.rows)):
                    values.append(encode(entry._replace(rows=share)))
                    partitions.append(number)
        stamps = np.full(len(values), int(self._clock() * 1000), np.int64)
        return Records(pa.array(values, pa.binary()), stamps, partitions=np.array(partitions, np.int32))

    def _entries(self, batch: TimedBatch) -> Iterator[Entry]:
        """*batch* in pieces of a record's size; the watermark is told with the last of them."""
        whole, *last = entries_of(batch, self._target.definition)
        pieces = pieces_of(batch.frame, RECORD_BYTES)
        start = whole.start
        for piece, following in pairwise(pieces):
            end = int(following["_offset"][0])
            yield whole._replace(start=start, end=end, watermark=BEGINNING, idle=False, rows=piece, more=True)
            start = end
        yield whole._replace(start=start, rows=pieces[-1] if pieces[-1].height else None)
        yield from last

    def _shares(self, rows: pl.DataFrame | None) -> list[pl.DataFrame | None]:
        """The rows of each partition of the log."""
        count = self._target.partitions
        if count == 1 or rows is None:
            return [rows] * count
        zeros = [pl.col(n) + 0.0 for n in self._target.by if rows.schema[n].is_float()]  # -0.0 is 0.0
        chosen = partition_of(record_keys(rows.with_columns(zeros), self._target.by), count, 0)
        if (chosen[1:] < chosen[:-1]).any():  # rows of a stream that is keyed alike are all of one partition
            order = np.argsort(chosen, kind="stable")
            rows, chosen = rows[order], chosen[order]
        bounds = pairwise(np.searchsorted(chosen, np.arange(count + 1)).tolist())
        return [rows[first:end] if first < end else None for first, end in bounds]


async def _ends(
    log: Log,
    topic: str,
    partition: int,
    bounds: Range,
    wanted: set[Upstream],
    at_most: int | None = None,
) -> dict[Upstream, Logged]:
    """How far each of *wanted* is in a partition of the log, as its last records say.

    With *at_most* records that reach farther are left out. It may be told less than is there, which costs
    work only.
    """
    start, end = bounds
    look_back = _LOOK_BACK
    while True:
        begin, found = max(start, end - look_back), dict[Upstream, Logged]()
        begun: dict[Upstream, Logged] = {}
        async for chunk in log.scan(topic, partition, begin, end):
            for value in chunk.values():
                if value is not None and is_snapshot(value):
                    for upstream, read in reads_in(value).items():
                        if read.covered is not None and at_most is None:
                            stands = Logged(read.covered, read.watermark)
                            found[upstream] = max(stands, found.get(upstream, stands))
                    continue
                entry = decode(value, heads_only=True)
                if at_most is not None and entry.start <= at_most:
                    begun.setdefault(entry.upstream, Logged(entry.start))
                stands = Logged(entry.end, entry.watermark)
                told = not entry.more and (at_most is None or entry.end <= at_most)
                if told and stands > found.get(entry.upstream, Logged(-1)):
                    found[entry.upstream] = stands
        if begin == start or wanted <= found.keys():
            # A record may reach from before that position to behind it: then nothing is known but its start.
            return {**begun, **found} if begin == start else found
        look_back *= 4


async def judged_from(
    graph: Graph,
    stream: str,
    writers: Mapping[str, StateLogWriter],
    source: PartitionId,
    position: int,
) -> Logged | None:
    """From where rows of *source* must be judged again so that late ones from *position* on are known.

    None where no stream of late rows asks for it: windows know from their logs who was late.
    """
    stage = graph.stage(graph.sources[stream].id)
    if not any(isinstance(graph.nodes[id].part, Late) for id in stage):
        return None
    timed = next(id for id in stage if id in graph.stateful and operator_of(graph, id).timed)
    return await writers[timed].before(source, position)
