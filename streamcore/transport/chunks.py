"""Chunks through Faust: one Faust message is one fetched chunk, or the small chunks of one fetch.

A topic opts in by its schema (:class:`ChunkSchema`); its agents then get a
:class:`streamcore.batch.Chunk` (or a :class:`ChunkGroup`) as the event's value. :class:`ChunkOffsets`
goes before a Faust Consumer (Kafka's or the embedded one) and keeps the offsets of chunked topics.
Topics without the schema keep Faust's own bookkeeping, in the same app.

In each rebalance::

    partitions revoked   flow stops -> started work ends -> Positions.revoked -> last commit
    partitions assigned  tables recover -> committed offsets -> Positions.assigned -> seek -> flow resumes

Three faults of Faust are closed here. It resumes stream partitions *before* it seeks them, and then
empties its queues, so that records fetched in between are lost: the resume waits for the seek. It
does not seek partitions without a commit: all stream partitions are sought. It labels records with
the generation that it sees *after* the fetch: :class:`Fetched` carries the one they were read under.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

import faust
from faust.transport.consumer import Consumer
from faust.types import TP, AppT, ConsumerMessage, EventT, Message
from faust.types.tuples import ack_lock
from mode import Seconds
from mode.services import WaitResults

from streamcore.batch import Chunk, PartitionId
from streamcore.errors import BadConfig
from streamcore.transport.begun import Begun
from streamcore.transport.chunk_groups import GROUP_BYTES, HAND_OVER_SECONDS, ChunkGroup, is_little

TURNS = 3
"""Turns of the event loop before the next fetch, so that what the sinks have appended goes out first."""


class ChunkSchema(faust.Schema):  # type: ignore[misc]
    """Schema of a topic whose events are chunks: ``app.topic("t", schema=ChunkSchema())``.

    With ``grouped``, and where the app has :class:`Positions`, each event is a :class:`ChunkGroup`.
    """

    def __init__(self, *, grouped: bool = False) -> None:
        self.grouped = grouped
        super().__init__(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    def compile(
        self,
        app: AppT,
        *,
        on_key_decode_error: object = None,
        on_value_decode_error: object = None,
        default_propagate: bool = False,
    ) -> Callable[..., Awaitable[EventT]]:
        """Faust's decode function for this schema: the chunk passes as it is and can't fail here."""

        async def decode(message: Message, *, propagate: bool = default_propagate) -> EventT:
            return app.create_event(None, message.value, message.headers, message)

        return decode


class Positions(Protocol):
    """Who knows where the work stands; the runtime sets it as ``app.streamcore_positions``.

    Without one, a chunked partition goes on from the group's commit and its agents' acks are
    committed. All methods are called from the app's event loop.
    """

    async def assigned(self, starts: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """Called in every rebalance, when the committed offsets are known and nothing is fetched yet.

        *starts* has every chunked partition that this worker now owns: the group's commit, or where
        the stream starts when there is none. The answer says for each where reading goes on. An
        error stops the worker.
        """
        ...

    def commit_position(self, tp: TP) -> int | None:
        """What the group may commit now for *tp*, or None for nothing; also asked after ``revoked``."""
        ...

    async def revoked(self, tps: set[TP]) -> None:
        """Called before partitions leave (rebalance or stop), when no agent works on a chunk any more
        and before the last commit: make durable what is not.
        """
        ...


class Fetches(NamedTuple):
    """How a broker is to answer fetches; the runtime sets it as ``app.streamcore_fetches``.

    With *min_bytes* or more, *max_bytes* at most, and with what there is after *max_wait* seconds.
    """

    max_bytes: int = 8 << 20
    min_bytes: int = 1
    max_wait: float = 0.5


class Fetched(dict[TP, list[object]]):
    """The records of one fetch, and the group's generation that they were read under."""

    def __init__(self, records: Mapping[TP, list[object]], generation: int) -> None:
        super().__init__(records)
        self.generation = generation


class ChunkOffsets(Consumer):  # type: ignore[misc]
    """Mixin before a Faust Consumer: reading, seeking and committing of chunked topics.

    A transport's consumer gives :meth:`topic_ids`, and ``_getmany`` returning :class:`Fetched` (or a
    plain mapping when fetching can't cross a rebalance) whose lists hold chunks for chunked topics
    (:meth:`is_chunked`). It may refuse positions in :meth:`check_commits` and :meth:`check_positions`.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._chunked_topics: dict[str, bool] = {}
        self._grouped_topics: set[str] = set()
        # Without Positions: the end of each chunk that was handed out and its message, in order.
        self._handed_out: defaultdict[TP, dict[int, Message]] = defaultdict(dict)
        self._acked_prefix: dict[TP, int] = {}
        self._chunked_assigned: set[TP] = set()
        self._held_by_positions: set[TP] = set()
        self._resume_after_seek: set[TP] = set()
        self._sought = False
        self._awaiting_seek = True
        self._partition_active = asyncio.Event()
        super().__init__(*args, **kwargs)

    # ------------------------------------------------------------ what a transport gives

    @abstractmethod
    async def topic_ids(self, topics: set[str]) -> Mapping[str, str]:
        """The id (see :class:`PartitionId`) of each of *topics*."""

    async def check_commits(self, sources: Mapping[TP, PartitionId]) -> None:
        """Raise TopicChanged when a commit belongs to an earlier topic of the same name."""

    async def check_positions(self, positions: Mapping[TP, int]) -> None:
        """Raise TopicChanged when the log no longer holds one of *positions*."""

    # ------------------------------------------------------------ which topics

    @property
    def positions(self) -> Positions | None:
        """The runtime's position keeping, None in plain Faust apps."""
        found: Positions | None = getattr(self.app, "streamcore_positions", None)
        return found

    def is_chunked(self, topic: str) -> bool:
        """Whether *topic*'s messages are chunks. BadConfig when its channels disagree."""
        known = self._chunked_topics.get(topic)
        if known is None:
            schemas = [c.schema for c in list(self.app.topics) if topic in c.topics]
            flags = {isinstance(schema, ChunkSchema) for schema in schemas}
            if len(flags) > 1:
                raise BadConfig(
                    f"topic {topic} is read both in chunks and record by record",
                    fix="give all its agents the same schema, or read it under another consumer group",
                )
            if not flags:
                return False
            known = self._chunked_topics[topic] = flags.pop()
            if known and all(schema.grouped for schema in schemas):
                self._grouped_topics.add(topic)
        return known

    # ------------------------------------------------------------ reading

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Messages of one fetch; none of an older assignment, none lost while the flow is stopped."""
        if self.app.client_only:
            async for item in super().getmany(timeout):
                yield item
            return
        fetched = await self._next_fetch(timeout)
        if not self.flow_active:
            # What was read after the seek but before the flow resumed is good and must not be dropped.
            await self.wait(self.can_resume_flow)
        groups: list[ChunkGroup] = []
        for tp, message in self._messages(fetched):
            stale = fetched.generation != self.app.consumer_generation_id
            if self.should_stop or not self.flow_active or stale:
                return  # the seek of the rebalance comes back to these records
            message.generation_id = fetched.generation  # streams skip messages of another one
            if isinstance(message.value, ChunkGroup) and message.value.awaited:
                groups.append(message.value)
            yield tp, message
        until = asyncio.get_running_loop().time() + HAND_OVER_SECONDS
        for group in groups:
            await group.wait(until)
        for _ in range(TURNS if groups else 0):
            await asyncio.sleep(0)

    def _messages(self, fetched: Fetched) -> Iterator[tuple[TP, ConsumerMessage]]:
        """What was fetched as messages, of grouped topics one for all chunks that are not too large."""
        open_: dict[str, tuple[TP, ConsumerMessage]] = {}
        awaited = is_little(fetched)
        for tp in fetched:
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
        for tp, record in self.scheduler.iterate(fetched):
            if self._is_changelog_tp(tp) and not self._still_wanted(tp):
                continue
            message = self._to_message(tp, record)
            if not isinstance(record, Chunk) or not self._is_grouped(tp.topic):
                yield tp, message
                continue
            if tp.topic in open_ and open_[tp.topic][1].value.nbytes + record.nbytes > GROUP_BYTES:
                yield open_.pop(tp.topic)
            if tp.topic not in open_:
                message.value = ChunkGroup(awaited=awaited)
                open_[tp.topic] = (tp, message)
            open_[tp.topic][1].value.add(record)
        yield from open_.values()

    def _is_grouped(self, topic: str) -> bool:
        return self.positions is not None and topic in self._grouped_topics

    def _still_wanted(self, tp: TP) -> bool:
        return tp in self._get_active_partitions() or tp in self._buffered_partitions

    async def _next_fetch(self, timeout: float) -> Fetched:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        self._partition_active.clear()
        # A copy: the set changes under the fetch, and an empty one means "all" to aiokafka.
        active = frozenset(self._get_active_partitions())
        generation = self.app.consumer_generation_id
        if not active:
            await self.wait(self._partition_active, timeout=timeout)
            return Fetched({}, generation)
        records = await self._getmany(active_partitions=active, timeout=timeout)
        return records if isinstance(records, Fetched) else Fetched(records, generation)

    def on_buffer_drop(self, tp: TP) -> None:
        """A stream's queue has room again."""
        super().on_buffer_drop(tp)
        self._partition_active.set()

    def _to_message(self, tp: TP, record: object) -> ConsumerMessage:
        if not isinstance(record, Chunk):
            return super()._to_message(tp, record)
        tp = TP(*tp)
        message = ConsumerMessage(
            tp.topic, tp.partition, record.end - 1, None, 0, None, None, record, None, 0, 0, tp
        )  # fmt: skip
        if self.positions is None:
            for other in self._handed_out:  # let go of the chunks that are done
                self._advance(other)
            self._handed_out[tp][record.end] = message
        return message

    async def wait_first(self, *waits: object, timeout: Seconds | None = None) -> WaitResults:
        """As Faust's, which makes a task of each: to hand a message on seldom needs a wait."""
        first, *others = waits
        if timeout is None and isinstance(first, Coroutine):
            first = Begun(first)
            if first.ended:
                for other in others:
                    if isinstance(other, Coroutine):
                        other.close()
                stopped = self._stopped.is_set() or self._crashed.is_set()
                return WaitResults([waits[0]], [first.result], stopped)
        return await super().wait_first(first, *others, timeout=timeout)

    async def sleep(self, n: Seconds) -> None:
        """As Faust's, whose way of giving way (0 seconds), once a fetch, makes a task."""
        await (super().sleep(n) if n else asyncio.sleep(0))

    # ------------------------------------------------------------ committing

    def _new_offset(self, tp: TP) -> int | None:
        if not self.is_chunked(tp.topic):
            offset: int | None = super()._new_offset(tp)
            return offset
        with ack_lock:  # Faust notes acks by offset, which means nothing for chunks
            self._acked[tp].clear()
            self._acked_index[tp].clear()
        if self.positions is not None:
            return self.positions.commit_position(tp)
        self._advance(tp)
        return self._acked_prefix.get(tp)

    def _advance(self, tp: TP) -> None:
        # The messages say what is acked: Faust's compiled stream never calls Consumer.ack().
        ends = self._handed_out[tp]
        for end in list(ends):
            if not ends[end].acked:
                break
            del ends[end]
            self._acked_prefix[tp] = end

    def _filter_tps_with_pending_acks(self, topics: Iterable[object] | None = None) -> list[TP]:
        # Faust looks at the keys of _acked only; commit positions of chunked partitions need no ack.
        wanted = None if topics is None else set(topics)
        tps = {*self._acked, *self._chunked_assigned}
        return [tp for tp in tps if wanted is None or tp in wanted or tp.topic in wanted]

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        # Faust moves its bookkeeping on even when the commit failed.
        before = {tp: self._committed_offset[tp] for tp in offsets if self.is_chunked(tp.topic)}
        done = bool(await super()._commit_offsets(offsets, start_new_transaction=start_new_transaction))
        if not done:
            self._committed_offset.update(before)
        return done

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if not self.is_chunked(tp.topic):  # a chunk covers its holes itself
            await super()._add_gap(tp, offset_from, offset_to)

    # ------------------------------------------------------------ rebalances

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Partitions leave; Faust ends the started work and commits inside of this."""
        self._resume_after_seek, self._sought, self._awaiting_seek = set(), False, True
        await super().on_partitions_revoked(revoked)
        if self._held_by_positions:  # stream_wait_empty is off: Faust has not waited nor committed
            await self.commit_and_end_transactions()
        self._forget_offsets()

    async def commit_and_end_transactions(self) -> None:
        """The last commit before partitions leave; the runtime makes its work durable before it."""
        held, self._held_by_positions = self._held_by_positions, set()
        if held and self.positions is not None:
            await self.positions.revoked(held)
        await super().commit_and_end_transactions()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume fetching; in a rebalance, of stream partitions only in the resume_flow after the seek."""
        tps = set(tps)
        later = {tp for tp in tps if not self._is_changelog_tp(tp)} if self._awaiting_seek else set()
        if tps - later:
            super().resume_partitions(tps - later)
        self._resume_after_seek |= later
        self._partition_active.set()

    def resume_flow(self) -> None:
        """Let messages flow; called by Faust several times in a recovery, the last time after the seek."""
        super().resume_flow()
        if self._sought and self._resume_after_seek:
            super().resume_partitions(self._resume_after_seek & self.assignment())
            self._resume_after_seek, self._sought, self._awaiting_seek = set(), False, False
        self._partition_active.set()

    async def perform_seek(self) -> None:
        """Put every stream partition where its reading goes on."""
        self._forget_offsets()
        await super().perform_seek()
        streams = {tp for tp in self.assignment() if not self._is_changelog_tp(tp)}
        targets: dict[TP, int] = {tp: p for tp in streams if (p := self._read_offset[tp]) is not None}
        targets |= await self._stream_starts(streams - set(targets))
        chunked = {tp for tp in streams if self.is_chunked(tp.topic)}
        targets |= await self._chunked_targets({tp: targets[tp] for tp in chunked})
        if targets:
            await self.seek_wait({self._new_topicpartition(*tp): offset for tp, offset in targets.items()})
        self._read_offset.update({tp: targets[tp] or None for tp in chunked})
        self._chunked_assigned = chunked
        self._sought = True

    async def _stream_starts(self, tps: set[TP]) -> dict[TP, int]:
        if not tps:
            return {}
        partitions = [self._new_topicpartition(*tp) for tp in tps]
        if self.app.conf.consumer_auto_offset_reset == "latest":
            starts = await self.highwaters(*partitions)
        else:
            starts = await self.earliest_offsets(*partitions)
        return {TP(*tp): offset for tp, offset in starts.items()}

    async def _chunked_targets(self, starts: Mapping[TP, int]) -> dict[TP, int]:
        if not starts:
            return {}
        ids = await self.topic_ids({tp.topic for tp in starts})
        sources = {tp: PartitionId(tp.topic, tp.partition, ids[tp.topic]) for tp in sorted(starts)}
        await self.check_commits(sources)
        targets = dict(starts)
        if self.positions is not None:
            answer = await self.positions.assigned({source: starts[tp] for tp, source in sources.items()})
            targets = {tp: answer[source] for tp, source in sources.items()}
            self._held_by_positions = set(targets)
        await self.check_positions(targets)
        return targets

    def _forget_offsets(self) -> None:
        for tp in self._chunked_assigned:
            self._committed_offset.pop(tp, None)
            self._read_offset.pop(tp, None)
        self._handed_out.clear()
        self._acked_prefix.clear()
        self._chunked_assigned = set()
