"""Faust transport ``embedded://name[/abs/dir]``: an app runs on a log in its own process, no server.

The broker is :mod:`.embedded_broker`; open it before the app to give it options, close it after all
apps have stopped. Several apps with one id are members of one group. Chunked topics (``ChunkSchema``)
get whole chunks, from a log or from a feed; other topics get records; both in one app.

Reading never polls: an append, a finished read ahead, room in a stream's queue or the end of a
rebalance wake the fetch. A position moves when a record is handed to Faust, not when it is fetched,
so that what a pause or a rebalance throws away is simply read again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka.partitioner import murmur2
from faust.transport import base
from faust.types import TP, AppT, ConsumerMessage
from mode import Service
from mode.utils.objects import cached_property

from streamcore.batch import Chunk, PartitionId
from streamcore.crashpoints import crash_point
from streamcore.errors import Fenced, TopicChanged
from streamcore.transport.chunks import ChunkOffsets, Fetched
from streamcore.transport.coordinator import Assignment, State
from streamcore.transport.embedded_broker import Broker, Group, Topic
from streamcore.transport.embedded_feed import FeedReader
from streamcore.transport.embedded_producer import Producer

_RECORDS_BYTES = 256 << 10
"""How much of a per-record partition is fetched at once."""


class _Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int | None
    headers: tuple[tuple[str, bytes], ...]


class Consumer(ChunkOffsets):
    """A member of the app's group on the transport's broker."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._broker: Broker = self.transport.broker
        self._group: Group = self._broker.group(self.app.conf.id)
        self._group.coordinator.session_timeout = self.app.conf.broker_session_timeout
        self._group.coordinator.rebalance_timeout = self.app.conf.broker_rebalance_timeout
        self.member = f"{self.app.conf.broker_client_id}-{uuid.uuid4()}"
        self._topics: set[str] = set()
        self._owned: set[TP] = set()
        self._generation = 0
        self._subscribed_anew = False
        self._next: dict[TP, int] = {}
        self._readers: dict[TP, FeedReader] = {}
        self._membership: asyncio.Future[None] | None = None
        self._woken = asyncio.Event()
        self._short_of_room = asyncio.Event()
        self._unlisten = self._broker.listen(self._on_append)

    # ------------------------------------------------------------ membership

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Read *topics*, made if they do not exist; Faust calls it again when they change."""
        self._topics = set(topics)
        for topic in sorted(self._topics):
            self._broker.create(topic, self.app.conf.topic_partitions)
        self._subscribed_anew = True
        self._woken.set()
        if self._membership is None:
            # Not awaited here: the assignment waits for the subscription to be done.
            self._membership = self.add_future(self._be_member())

    def wake(self) -> None:
        """The coordinator wants this member to look."""
        self._woken.set()

    def assign(self, members: Mapping[str, object]) -> Mapping[str, Assignment[object]]:
        """Share out by Faust's own assignor, which keeps tables beside their streams."""
        shares = self.app.assignor.assign(self._broker, dict(members))
        return {
            name: Assignment(frozenset((t, p) for t, ps in share.assignment for p in ps), share)
            for name, share in shares.items()
        }

    async def _be_member(self) -> None:
        coordinator = self._group.coordinator
        while not (self.should_stop or self.app.should_stop):
            await self._woken.wait()
            self._woken.clear()
            current = coordinator.is_current(self.member, self._generation)
            if self._subscribed_anew or not current or coordinator.in_round:
                await self._rebalance()

    async def _rebalance(self) -> None:
        self.app.on_rebalance_start()
        self._broker.let_appends_pass()
        if self._owned:
            await self._end_started_work()
            await self.on_partitions_revoked(set(self._owned))
        await self._give_up_partitions()
        assignment = await self._join()
        self._generation = self.app.consumer_generation_id = self._group.coordinator.generation
        self.app.assignor.on_assignment(assignment.payload)
        self._owned = {TP(*partition) for partition in assignment.partitions}
        for topic in {tp.topic for tp in self._owned}:
            if self.app.topics.acks_enabled_for(topic):
                self._broker.reads(topic, self._group.name)
        await self.on_partitions_assigned(set(self._owned), self._generation)

    async def _end_started_work(self) -> None:
        """Faust forgets the acks of per-record topics before its last commit: commit them before that."""
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        if self.app.conf.stream_wait_empty:
            await self.wait_empty()
        else:
            await self.commit_and_end_transactions()

    async def _join(self) -> Assignment[object]:
        coordinator = self._group.coordinator
        while True:
            self._subscribed_anew = False
            coordinator.join(self.member, self, self.app.assignor.metadata(self._topics))
            while coordinator.state(self.member) is State.JOINED:
                self._woken.clear()
                await self._woken.wait()
            if coordinator.state(self.member) is State.STABLE:
                return coordinator.assignment(self.member)

    async def _give_up_partitions(self) -> None:
        self._owned = set()
        self._next.clear()
        readers, self._readers = list(self._readers.values()), {}
        for reader in readers:  # another member may read the same feed next
            await reader.close()

    @Service.task  # type: ignore[untyped-decorator]
    async def _heartbeats(self) -> None:
        async for _ in self.itertimer(self.app.conf.broker_heartbeat_interval, name="heartbeat"):
            self._group.coordinator.heartbeat(self.member)

    async def on_stop(self) -> None:
        """Commit, then leave the group."""
        try:
            await super().on_stop()
        finally:
            self._group.coordinator.leave(self.member)
            await self._give_up_partitions()
            self._unlisten()

    # ------------------------------------------------------------ reading

    def _on_append(self) -> None:
        self._partition_active.set()
        if self._broker.full:
            self._short_of_room.set()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Fetched:
        generation, found = self._generation, {}
        # A member that was dropped reads nothing: the new owner may be at work.
        if self._group.coordinator.is_current(self.member, generation):
            for tp in active_partitions or ():
                if tp in self._next and (records := self._read(tp)):
                    found[tp] = records
        if not found and not await self._made_durable(active_partitions or ()):
            await self.wait(self._partition_active, timeout=timeout)
        return Fetched(found, generation)

    async def _made_durable(self, active: Iterable[TP]) -> bool:
        """Wait for records that were appended and may not be read yet; False when there are none."""
        logs = (self._topic(tp).logs[tp.partition] for tp in active if self._topic(tp).logs)
        if all(log.durable == log.end for log in logs):
            return False
        await self._broker.synced()
        return True

    def _read(self, tp: TP) -> list[object]:
        topic, chunked = self._topic(tp), self.is_chunked(tp.topic)
        chunk: Chunk | None
        if topic.feeds:
            chunk = self._reader(tp, topic).chunk_at(self._next[tp])
        else:
            size = self.app.conf.consumer_max_fetch_size if chunked else _RECORDS_BYTES
            log = topic.logs[tp.partition]
            chunk = log.read(self._next[tp], size, log.durable)
        if chunk is None:
            return []
        return [chunk] if chunked else list(_records(chunk))

    def _reader(self, tp: TP, topic: Topic) -> FeedReader:
        if tp not in self._readers:
            size, threads = self.app.conf.consumer_max_fetch_size, self._broker.feed_threads
            self._readers[tp] = FeedReader(
                topic.feeds[tp.partition], size, threads, self._partition_active.set
            )
        return self._readers[tp]

    def _to_message(self, tp: TP, record: object) -> ConsumerMessage:
        if isinstance(record, Chunk):
            self._next[tp] = record.end
            return super()._to_message(tp, record)
        assert isinstance(record, _Record)
        self._next[tp] = record.offset + 1
        seconds = time.time() if record.timestamp is None else record.timestamp / 1000
        return ConsumerMessage(
            tp.topic, tp.partition, record.offset, seconds, 0, list(record.headers), record.key, record.value,
            None, len(record.key or b""), len(record.value or b""), tp, generation_id=self._generation,
        )  # fmt: skip

    def ended(self) -> bool:
        """Whether all chunked partitions of this member are bounded and were handed out to their end."""
        if self.app.rebalancing or not self._group.coordinator.is_current(self.member, self._generation):
            return False
        chunked = [tp for tp in self._owned if self.is_chunked(tp.topic)]
        return all(self._is_at_end(tp) for tp in chunked)

    def _is_at_end(self, tp: TP) -> bool:
        topic = self._topic(tp)
        end = topic.feeds[tp.partition].end() if topic.feeds else None
        return end is not None and self._next.get(tp, -1) >= end

    def lag(self) -> dict[TP, int]:
        """Records of each live partition that were not handed out yet."""
        live = [tp for tp in self._owned if tp in self._next and self._topic(tp).logs]
        return {tp: self.highwater(tp) - self._next[tp] for tp in live}

    # ------------------------------------------------------------ positions

    def assignment(self) -> set[TP]:
        """The partitions that this member owns."""
        return self._owned

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        """Put all stream partitions to their commits, those without one to None."""
        found: dict[TP, int | None] = {}
        for tp in self._owned:
            if not self._is_changelog_tp(tp):
                found[tp] = self._group.committed.get(self._source(tp))
                self._next.pop(tp, None)
                if (offset := found[tp]) is not None:
                    self._next[tp] = offset
        return found

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Read on from these positions."""
        for tp, offset in partitions.items():
            self._next[tp] = offset
            self._read_offset[tp] = offset or None
        self._partition_active.set()

    async def _seek(self, partition: TP, offset: int) -> None:
        self._next[partition] = offset
        self._partition_active.set()

    async def position(self, tp: TP) -> int | None:
        """The next position to be handed out."""
        return self._next.get(tp)

    def highwater(self, tp: TP) -> int:
        """The end of the log; of a feed, as far as it is known."""
        return max(self._broker.bounds(self._source(tp)).end, self._next.get(tp, 0))

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """The end of each log."""
        return {tp: self._broker.bounds(self._source(tp)).end for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """The oldest position of each partition."""
        return {tp: self._broker.bounds(self._source(tp)).start for tp in partitions}

    def topic_partitions(self, topic: str) -> int | None:
        """How many partitions *topic* has."""
        found = self._broker.topic(topic)
        return None if found is None else len(found)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """The partition of *key*."""
        found = self._broker.topic(topic)
        if found is None or partition is not None or key is None:
            return partition
        return int(murmur2(key) & 0x7FFFFFFF) % len(found)

    def _topic(self, tp: TP) -> Topic:
        found = self._broker.topic(tp.topic)
        if found is None:
            raise TopicChanged("the topic was deleted", where=f"{tp.topic}/{tp.partition}")
        return found

    def _source(self, tp: TP) -> PartitionId:
        return self._topic(tp).source(tp.partition)

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def topic_ids(self, topics: set[str]) -> Mapping[str, str]:
        """The broker's ids, or those of the feeds."""
        return {topic: self._topic(TP(topic, 0)).topic_id for topic in topics}

    async def check_commits(self, sources: Mapping[TP, PartitionId]) -> None:
        """TopicChanged when the group committed to another topic of the name. Feeds may change: another id
        is another replay."""
        committed = self._group.committed
        for tp, source in sources.items():
            others = [c for c in committed if c[:2] == source[:2] and c != source]
            if others and source not in committed and not self._topic(tp).feeds:
                raise TopicChanged(
                    f"topic {tp.topic} was deleted and made again since group {self._group.name} read it",
                    where=str(source),
                    got=source.topic_id,
                    allowed=[c.topic_id for c in others],
                    fix="read it under another group, or restore the topic",
                )

    async def check_positions(self, positions: Mapping[TP, int]) -> None:
        """TopicChanged when a log does not hold the position any more, or never did."""
        for tp, position in positions.items():
            if self._topic(tp).logs:
                first, end = self._broker.bounds(self._source(tp))
                if not first <= position <= end:
                    raise TopicChanged(
                        "the log does not hold the position where reading goes on",
                        where=f"{tp.topic}/{tp.partition}",
                        got=position,
                        allowed=[f"{first} to {end}"],
                    )

    # ------------------------------------------------------------ committing

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        sources = {self._source(tp): offset for tp, offset in offsets.items()}
        crash_point("commit.before")
        try:
            await self._group.commit(self.member, self._generation, sources)
        except Fenced as error:
            self.log.warning("Commit refused: %s", error)
            return False
        crash_point("commit.after")
        return True

    @Service.task  # type: ignore[untyped-decorator]
    async def _commit_when_full(self) -> None:
        """An append waits for room, which only a commit gives: do not let it wait for the timer."""
        while not self.should_stop:
            await self.wait(self._short_of_room)
            self._short_of_room.clear()
            while self._broker.full and not self.should_stop:
                if not await self.commit():
                    await self._wait_for_ack(timeout=1.0)

    async def create_topic(self, topic: str, partitions: int, replication: int, **options: object) -> None:
        """Make the topic unless it exists."""
        await self.app.producer.create_topic(topic, partitions, replication, **options)


def _records(chunk: Chunk) -> Iterable[_Record]:
    offsets, stamps = chunk.offsets().tolist(), chunk.timestamps()
    times = [None] * len(offsets) if stamps is None else stamps.tolist()
    for offset, key, value, stamp in zip(offsets, chunk.keys(), chunk.values(), times, strict=True):
        yield _Record(offset, key, value, stamp, chunk.headers(offset))


class Transport(base.Transport):  # type: ignore[misc]
    """The transport of ``embedded://`` URLs (entry point group ``faust.transports``)."""

    Consumer = Consumer
    Producer = Producer
    default_port = 0
    driver_version = "streamcore embedded"

    def __init__(self, url: list[object], app: AppT, **kwargs: object) -> None:
        super().__init__(url, app, **kwargs)

    @cached_property  # type: ignore[untyped-decorator]
    def broker(self) -> Broker:
        """The broker; opened when a consumer or producer is made, not when the app is declared."""
        return Broker.open(str(self.url[0]))
