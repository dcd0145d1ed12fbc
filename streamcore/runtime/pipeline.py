"""A topology at work in one process: partitions come and go, chunks pass through their tasks to the sinks.

The pipeline is what the transport asks for positions (:class:`streamcore.transport.chunks.Positions`).
The order that makes it exact, for every chunk:

1. the task decodes, checks and transforms it, in memory;
2. its dead letters are appended and durable;
3. each sink gets the rows that it does not have yet, and says later what is durable;
4. the group commits what every sink has confirmed.

When a partition is assigned, its former owner is kept from sending letters first; then each sink is asked
for its own position, which fences the former owner there. Reading goes on at the smallest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial

from faust.types import TP

from streamcore import joint
from streamcore.batch import Batch, Chunk, PartitionId, RecordChunk, Rejects, nothing_at
from streamcore.contracts import FlushReason, Log, SinkAbilities, SinkWriter
from streamcore.crashpoints import crash_point
from streamcore.deadletter.redrive import sent_before, unpack
from streamcore.graph import Graph, Late
from streamcore.observability.metrics import Metrics
from streamcore.passage import Logged, Outcome
from streamcore.runtime.causes import causes_of
from streamcore.runtime.counting import Counters
from streamcore.runtime.ending import end
from streamcore.runtime.kept_state import KeptState, taken_over
from streamcore.runtime.keying import KeyCheck
from streamcore.runtime.ledger import Ledger
from streamcore.runtime.lookups import Abandoned, Lookups
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.refusals import Refusals
from streamcore.runtime.repeated import pass_on
from streamcore.runtime.resuming import Resuming
from streamcore.runtime.sink_runner import SinkRunner
from streamcore.runtime.sink_writers import sink_writer
from streamcore.runtime.skipped import check_ends, check_holes
from streamcore.runtime.snapshots import Snapshots
from streamcore.runtime.state_logs import StateLogWriter, judged_from
from streamcore.runtime.taking_over import side_by_side, stands_of
from streamcore.task import PartitionTask, RedriveTask

log = logging.getLogger(__name__)


class Pipeline:
    """The live part of a topology. :meth:`start`, then chunks to :meth:`process`, then :meth:`stop`.

    *streams* maps the topics that are read to the names of their streams.
    """

    def __init__(
        self,
        graph: Graph,
        streams: Mapping[str, str],
        log: Log,
        metrics: Metrics,
        options: PipelineOptions,
    ) -> None:
        self.graph, self._log, self._metrics, self._options = graph, log, metrics, options
        self.ledger = Ledger(options.memory_limit)
        self.counters = Counters(graph.name, metrics)
        self.processed: dict[PartitionId, int] = {}
        """How far each owned partition has gone into the sinks' queues."""
        self.closing = False
        """Chunks that still arrive are left for the next owner."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keys = KeyCheck(graph, log)
        self._refusals = Refusals(log, graph.name, options, lambda topic: streams.get(topic, ""))
        self._lookups = Lookups(graph, options.retries, options.clock, metrics)
        self._tasks: dict[PartitionId, PartitionTask | RedriveTask | KeptState] = {}
        self.kept: dict[PartitionId, KeptState] = {}
        """The stateful nodes that are kept here, by the partition of their log. Never changed in place."""
        self._snapshots = Snapshots(log, options.snapshot_bytes, options.clock, options.copies)
        self.resuming = Resuming(graph, log, metrics, options)
        self._keeps_logs = any(isinstance(node.part, Late) for node in graph.nodes.values())
        """Who was late is found in the logs again: they are not cut."""
        self._sources: dict[TP, PartitionId] = {}
        self._streams = streams
        self._log_writers = {
            own.node: StateLogWriter(own, log, options.clock, crash_point)
            for own in options.state_logs.values()
        }
        self.runners = {id: self._runner(id) for id in [*graph.sinks, *self._log_writers]}
        self._running: list[asyncio.Task[None]] = []
        self._taking_over: asyncio.Task[object] | None = None
        self._left = False  # whether what was taken over last has left, perhaps before that had ended

    # ------------------------------------------------------------ life

    async def start(self, partitions: int) -> None:
        """Connect every sink and make the dead-letter topic (with *partitions* partitions if it is new)."""
        await self._refusals.start(partitions)
        await self._lookups.start()
        for runner in self.runners.values():
            await runner.start()
        work = {f"sink {runner.sink}": runner.run() for runner in self.runners.values()}
        if self._options.commits is not None:
            work["standbys"] = self.resuming.standbys.follow(self._options.commits)
        for name, running in work.items():
            self._running.append(asyncio.create_task(running, name=name))
            self._running[-1].add_done_callback(self._ended)

    async def finish(self) -> None:
        """Make everything that was processed durable, at the end of a bounded stream or of the worker."""
        await self._drain(FlushReason.END)

    async def _drain(self, reason: FlushReason) -> None:
        await asyncio.gather(*(r.drain(reason) for r in self.runners.values()))

    async def stop(self) -> None:
        """End the sink agents and close the sinks; flushes nothing."""
        await self._snapshots.stop()
        await end(self._running)
        for runner in self.runners.values():
            try:
                await runner.close()
            except Exception as error:  # noqa: BLE001 - the others are to be closed too
                log.warning("closing sink %s: %s", runner.sink, error)
        await self._lookups.close()
        await self._refusals.close()

    def fail(self, error: BaseException) -> None:
        """Make the worker stop with *error*; the first one counts."""
        if not self.failed.done():
            self.failed.set_exception(error)
            self.ledger.stir()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    # ------------------------------------------------------------ Positions, for the transport

    async def assigned(self, starts: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """Take partitions over from whoever had them: sinks first, then the tasks."""
        if self._taking_over is not None:  # a rebalance broke it off, and it may not have heard
            await end([self._taking_over])
        self._taking_over, self._left = asyncio.current_task(), False
        try:
            return await self._take_over(starts)
        except Exception as error:
            self.fail(error)
            raise
        finally:
            self._taking_over = None

    def commit_position(self, tp: TP) -> int | None:
        if (source := self._sources.get(tp)) is None:
            return None
        return self._settled(source) if source in self.kept else self.ledger.position(source)

    async def revoked(self, tps: set[TP]) -> None:
        self._left = True
        sources = [self._sources[tp] for tp in tps if tp in self._sources]
        await self._snapshots.stop()
        if self.failed.done():
            return  # nothing more may be confirmed
        drain = asyncio.create_task(self._drain(FlushReason.REVOKE))
        # A sink's queue never gets empty once its agent has ended, e.g. since it was fenced.
        await asyncio.wait([drain, self.failed], return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)
            return
        try:
            drain.result()
        except Exception as error:  # noqa: BLE001 - the worker stops with it; in here it would break Faust off
            self.fail(error)
            return
        # The ledger keeps the last positions, which the transport still commits after this.
        leaving = {source: self.kept[source] for source in sources if source in self.kept}
        sources += [kept.emissions for kept in leaving.values()]
        for source in sources:
            self._tasks.pop(source, None)
        for runner in self.runners.values():
            await runner.release(sources)
        await self._refusals.release(sources)
        self.resuming.leave(leaving)

    async def _take_over(self, starts: Mapping[PartitionId, int]) -> dict[PartitionId, int]:
        self._tasks.clear()  # also those of a take-over that the next rebalance broke off
        for source in [s for s in self.ledger.positions() if s not in starts]:
            self.ledger.drop(source)
            self.processed.pop(source, None)
        self._sources = {TP(s.topic, s.partition): s for s in starts}
        self.kept = await taken_over(self._log, self._options.state_logs, self.graph.name, starts)
        sources = [*starts, *(kept.emissions for kept in self.kept.values())]
        reached = {source: self._reached(source) for source in sources}
        judged = {id for id, runner in self.runners.items() if runner.server_refuses}
        await self._refusals.own([source for source in sources if reached[source] & judged])
        stands = await stands_of(self.runners, reached, starts)
        await check_ends(self._log, {s: at for s, at in stands.items() if s in starts})
        await self.resuming.resume(self.kept, stands, self.runners)
        for source, kept in self.kept.items():
            stands[source] = {kept.log.node: kept.first}
        for source, sinks in stands.items():
            self.ledger.open(source, sinks)
            self.processed[source] = min(sinks.values())
        self.resuming.keep(len(self.kept))
        await side_by_side(self._begin, starts)
        crash_point("pipeline.taken_over")
        return {source: self.processed[source] for source in starts}

    def _reached(self, source: PartitionId) -> frozenset[str]:
        """The sinks, and the logs of state, that get something of *source*."""
        if source.topic == self._options.redrive_topic:
            return frozenset(self.graph.sinks)
        if source in self.kept:
            return frozenset()
        stateful = {kept.emissions: kept.log.node for kept in self.kept.values()}
        node = stateful.get(source) or self.graph.sources[self._streams[source.topic]].id
        return frozenset(self.graph.stage(node)) & self.runners.keys()

    async def _begin(self, source: PartitionId) -> None:
        """Make the task of *source*, which goes on where its sinks stand; none if it has left by then."""
        position = self.processed[source]
        clocks = {"timer": time.perf_counter, "clock": self._options.clock}
        if (kept := self.kept.get(source)) is not None:
            known = await self._refusals.known(kept.emissions, self.processed[kept.emissions])
            if self._left:
                return
            place = self._options.place(len(self.kept) + len(self.resuming.standbys.wanted))
            kept.begin(self.graph, known, self._logged(kept.emissions), time.perf_counter, place)
            self._tasks[source] = kept
            if kept.has_to_tell:  # its log may hold nothing more
                await self._keep(kept, RecordChunk(source, [], [], first=kept.first, end=kept.first))
            return
        known = await self._refusals.known(source, position)
        if source.topic == self._options.redrive_topic:
            once = partial(unpack, seen=await sent_before(self._log, source, position))
            task: PartitionTask | RedriveTask
            task = RedriveTask(self.graph, source, unpack=once, known=known, **clocks)
        else:
            stream, logs = self._streams[source.topic], self._logged(source)
            at = await judged_from(self.graph, stream, self._log_writers, source, position)
            self.processed[source] = position if at is None else at.position
            task = PartitionTask(self.graph, stream, source, known=known, logged=logs, begins=at, **clocks)
        if not self._left:
            self._tasks[source] = task

    def _logged(self, source: PartitionId) -> dict[str, Logged]:
        """What the logs of state have of *source*."""
        return {w: own.logged[source] for w, own in self._log_writers.items() if source in own.logged}

    @property
    def rows_out(self) -> dict[str, int]:
        """How many rows each sink has confirmed since the start."""
        return {sink: self.runners[sink].rows_out for sink in self.graph.sinks}

    def owned(self) -> dict[PartitionId, int]:
        """What all sinks have confirmed of each partition that is worked on; of none that has left."""
        return {source: at for source, at in self.ledger.positions().items() if source in self._tasks}

    # ------------------------------------------------------------ chunks

    async def process(self, *chunks: Chunk) -> None:
        """Bring *chunks* of one topic, each partition's in order, through their tasks to the sinks.

        Waits while too much is unconfirmed.
        """
        try:
            await self._room()
            if self.closing or self.failed.done():
                return
            # Looked up behind the wait: a partition that has left meanwhile is its next owner's.
            work = [(task, chunk) for chunk in chunks if (task := self._tasks.get(chunk.source)) is not None]
            check_holes([chunk for _, chunk in work], self.processed)
            for task, chunk in work:
                if isinstance(task, KeptState):
                    await self._keep(task, chunk)
            rows = [(task, chunk) for task, chunk in work if not isinstance(task, KeptState)]
            outcomes = await self._lookups.answered(joint.asking(rows), lambda: self._wants_any(rows))
            for (task, _), outcome in zip(rows, outcomes, strict=True):
                await self._pass_on(task, outcome)
        except Abandoned:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must stop and say so
            self.fail(error)

    async def _pass_on(self, task: PartitionTask | RedriveTask, outcome: Outcome) -> None:
        """Dead letters first, then the sinks."""
        chunk = outcome.chunk
        if self._tasks.get(chunk.source) is not task:
            return  # it left while rows were looked up
        await self._refuse(outcome)
        if outcome.decoded is not None:
            await self._keys.look(self._streams[chunk.source.topic], chunk.source, outcome.decoded)
        if self._tasks.get(chunk.source) is not task:
            return  # the partition left meanwhile; its next owner does this chunk again
        self._hand_over(outcome)
        stream = self._streams.get(chunk.source.topic, chunk.source.topic)
        self.counters.read(stream, chunk, outcome)

    def _wants_any(self, work: joint.Work) -> bool:
        """Whether what comes of some of *work* goes anywhere still."""
        here = any(self._tasks.get(chunk.source) is task for task, chunk in work)
        return here and not self.closing and not self.failed.done()

    async def _keep(self, kept: KeptState, chunk: Chunk) -> None:
        """Add *chunk* of a log to its state; what comes of it goes the way of a chunk's rows."""
        wanted = lambda: self._tasks.get(chunk.source) is kept and not self.closing  # noqa: E731
        async for outcome, repeated in self._lookups.answered_each(kept.asking(chunk), wanted):
            if self._tasks.get(chunk.source) is not kept:
                return
            if repeated:
                reached = {sink: self.runners[sink] for sink in self._reached(kept.emissions)}
                pass_on(self.graph, reached, self.ledger, outcome.chunk, self.processed[kept.emissions])
            await self._refuse(outcome)
            if self._tasks.get(chunk.source) is not kept:
                return
            self._hand_over(outcome)
            self.counters.passed(outcome)
        self.processed[chunk.source] = chunk.end
        self.ledger.confirm(kept.log.node, {chunk.source: chunk.end})
        if not self._keeps_logs:
            self._snapshots.look(chunk.source, kept, chunk.end)
            await self._snapshots.trim(chunk.source, self._settled(chunk.source) or 0)

    def _settled(self, source: PartitionId) -> int | None:
        kept = self.kept.get(source)
        return None if kept is None else kept.settled(self.ledger.position(kept.emissions))

    def tell_watermark(self, source: PartitionId, watermark: int, *, idle: bool = False) -> None:
        """Windows need not wait for rows of *source* before *watermark*; ``time.END``: it has ended."""
        if isinstance(task := self._tasks.get(source), PartitionTask):
            here = nothing_at(source, self.processed[source])
            self._hand_over(task.on_watermark(here, watermark, idle=idle))

    @property
    def watermarks(self) -> dict[PartitionId, int]:
        """The watermark of each owned partition to which event time matters."""
        tasks = [task for task in self._tasks.values() if isinstance(task, PartitionTask)]
        return {task.source: task.watermark for task in tasks if task.stage.timed}

    @property
    def states_ended(self) -> bool:
        """Whether nothing more comes of any state: what feeds them is bounded and has ended."""
        owned = [kept.log.topic for kept in self.kept.values() if kept.ended]
        return all(owned.count(log.topic) == log.partitions for log in self._options.state_logs.values())

    async def _refuse(self, outcome: Outcome) -> None:
        crash_point("pipeline.before_dead_letters")
        if len(outcome.rejects):
            await self._append(outcome.chunk, outcome.rejects)
        crash_point("pipeline.before_sinks")

    def _hand_over(self, outcome: Outcome) -> None:
        chunk = outcome.chunk
        frames = {id(batch.frame): batch.frame for batch in outcome.writes.values()}  # sinks may share one
        self.ledger.took(chunk, sum(int(frame.estimated_size()) for frame in frames.values()))
        self.processed[chunk.source] = chunk.end
        for sink, batch in outcome.writes.items():
            self.runners[sink].put(batch)

    async def _room(self) -> None:
        while not self.closing and not self.failed.done():
            if self.ledger.full:
                for runner in self.runners.values():
                    runner.press()
            elif not any(runner.backlogged for runner in self.runners.values()):
                return
            await self.ledger.moved()

    async def _append(self, chunk: Chunk, rejects: Rejects, *, as_owner: bool = False) -> None:
        processed = self.processed.get(chunk.source, 0)
        await self._refusals.append(chunk, rejects, processed, as_owner=as_owner)
        self.counters.refused(rejects)

    # ------------------------------------------------------------ sinks

    def _runner(self, id: str) -> SinkRunner:
        writer: SinkWriter | None = self._log_writers.get(id)
        abilities = SinkAbilities(stores_positions=True)
        if writer is None:

            async def refuse(batch: Batch, rejects: Rejects) -> None:
                runner = self.runners[id]
                await self._append(batch.chunk, rejects, as_owner=runner.server_refuses)
                runner.refused(batch, len(rejects))

            writer, abilities = sink_writer(self.graph, id, self._log, self._options, refuse)
        retries, metrics = self._options.retries, self._metrics
        return SinkRunner(id, writer, self.ledger, retries, metrics, self.graph.name, abilities)

    def causes(self, sources: Sequence[PartitionId]) -> str:
        """Why *sources* may not move, in a few words."""
        given = [s for s in sources if self.processed.get(s, 0) > (self.ledger.position(s) or 0)]
        lagging = {sink for source in given for sink in self.ledger.laggards(source)}
        sinks = {id: self.runners[id].last_error for id in sorted(lagging & self.runners.keys())}
        return causes_of(self._refusals.last_error, self._lookups.errors, sinks)
