"""The embedded broker: topics, groups and commits of one process, in memory or in a directory.

``embedded://name`` is in memory and shared by all who open the same URL in the process;
``embedded://name/abs/dir`` keeps everything in ``/abs/dir``. Appends are durable after
:meth:`Broker.synced`; a commit syncs first, so that it never names records that a crash can take
back. Consumers read durable records only: what comes of others could be in a sink, and after a power
loss the log could hold other ones in their place. Everything runs on one event loop; reading of feeds
and fsync go to threads.

Retention: what all reading groups have committed is dropped from topics in memory, everything is
kept on disk; a topic's configuration can say otherwise (:data:`RETENTION`). While a partition whose
records get dropped holds more than its limit, appends wait.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import pyarrow as pa
from yarl import URL

from streamcore.batch import PartitionId, Range
from streamcore.errors import BadConfig, Permanent, TopicChanged
from streamcore.transport.coordinator import GroupCoordinator
from streamcore.transport.embedded_directory import Directory, Kept, TopicMeta, check_topic_name
from streamcore.transport.embedded_feed import Feed
from streamcore.transport.embedded_segments import SEGMENT_BYTES, SegmentFiles
from streamcore.transport.log import PartitionLog

RETENTION: Final = "streamcore.retention"
"""Topic configuration: "committed" drops what all reading groups have committed, "all" keeps everything."""
PARTITION_BYTES: Final = 64 << 20


@dataclass(slots=True)
class Topic:
    """A topic: ``logs`` when it is written to, ``feeds`` when it is attached to a bounded source."""

    name: str
    topic_id: str
    logs: Sequence[PartitionLog] = ()
    feeds: Sequence[Feed] = ()
    config: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.logs) or len(self.feeds)

    def source(self, partition: int) -> PartitionId:
        """The full name of a partition."""
        return PartitionId(self.name, partition, self.topic_id)

    def close(self) -> None:
        """Close its files."""
        for log in self.logs:
            log.close()
        for feed in self.feeds:
            feed.close()


class Broker:
    """*partition_bytes* limits a partition whose records get dropped; *clock* (seconds) is for sessions."""

    _open: ClassVar[dict[str, Broker]] = {}

    def __init__(
        self,
        url: str,
        *,
        partition_bytes: int = PARTITION_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url, self.clock = url, clock
        self._partition_bytes, self._segment_bytes = partition_bytes, segment_bytes
        self._topics: dict[str, Topic] = {}
        self._groups: dict[str, Group] = {}
        self._kept: dict[str, dict[str, Kept]] = {}
        self._listeners: list[Callable[[], None]] = []
        self.owners: dict[str, object] = {}
        """Who may write each lane (:mod:`.embedded_transactions`); nobody outside of this process can."""
        self._readers: defaultdict[str, set[str]] = defaultdict(set)
        self._full: dict[PartitionId, asyncio.Event] = {}
        self._unsynced: set[PartitionLog] = set()
        self._syncing: asyncio.Task[None] | None = None
        self._next_sync: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, "embedded-disk")
        self.feed_threads = ThreadPoolExecutor(4, "embedded-feed")
        path = URL(url).path
        self._directory = Directory(Path(path)) if path not in ("", "/") else None
        if self._directory is not None:
            self._recover(self._directory)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        partition_bytes: int = PARTITION_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> Broker:
        """The broker at *url*: the one that this process has open, or a new one with these options.

        BadConfig when the directory is in use or can't be used, Permanent when its records are damaged.
        """
        url = str(URL(url))
        if url not in cls._open:
            cls._open[url] = cls(
                url, partition_bytes=partition_bytes, segment_bytes=segment_bytes, clock=clock
            )
        return cls._open[url]

    def close(self) -> None:
        """Sync, close the files, give the directory free. Consumers must have stopped."""
        self._open.pop(self.url, None)
        self._disk.shutdown()
        self.feed_threads.shutdown()
        try:
            for log in self._unsynced:
                log.sync()
        finally:
            for topic in self._topics.values():
                topic.close()
            if self._directory is not None:
                self._directory.close()

    # ------------------------------------------------------------ topics

    @property
    def topics(self) -> list[str]:
        """The names of all topics, sorted."""
        return sorted(self._topics)

    def topic(self, name: str) -> Topic | None:
        """The topic, or None."""
        return self._topics.get(name)

    def partitions_for_topic(self, name: str) -> set[int] | None:
        """What Faust's assignor asks of a cluster's metadata."""
        topic = self._topics.get(name)
        return None if topic is None else set(range(len(topic)))

    def create(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> bool:
        """Make the topic unless it exists; True when it was made."""
        if name in self._topics:
            return False
        check_topic_name(name)
        if partitions < 1:
            raise BadConfig(f"topic {name} needs partitions", got=partitions, allowed=["1 or more"])
        meta = TopicMeta(f"embedded/{uuid.uuid4()}", partitions, dict(config or {}))
        if self._directory is not None:
            self._directory.create(name, meta)
        self._add(name, meta)
        return True

    def delete(self, name: str) -> None:
        """Delete the topic and its records. Groups keep their commits and will notice a new topic."""
        topic = self._topics.pop(name)
        topic.close()
        self._unsynced.difference_update(topic.logs)
        if self._directory is not None and topic.logs:
            self._directory.delete(name)

    def attach(self, name: str, feeds: Sequence[Feed]) -> None:
        """Make a topic whose partition *i* is read from ``feeds[i]``; it lasts until the broker is closed."""
        check_topic_name(name)
        ids = {feed.source.topic_id for feed in feeds}
        if name in self._topics or len(ids) != 1:
            raise BadConfig(
                f"topic {name} can't be attached: it exists already"
                if name in self._topics
                else f"topic {name} can't be attached: its feeds must share one topic id"
            )
        self._topics[name] = Topic(name, ids.pop(), feeds=feeds)

    def _add(self, name: str, meta: TopicMeta) -> None:
        logs = []
        for partition in range(meta.partitions):
            source, files = PartitionId(name, partition, meta.topic_id), None
            if self._directory is not None:
                folder = self._directory.partition(name, partition)
                files = SegmentFiles(folder, source, segment_bytes=self._segment_bytes)
            logs.append(PartitionLog(source, files))
        self._topics[name] = Topic(name, meta.topic_id, logs, config=meta.config)

    def _recover(self, directory: Directory) -> None:
        try:
            for name, meta in directory.topics():
                self._add(name, meta)
            for name, commits in directory.commits().items():
                self.group(name).committed.update(commits)
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------ appending

    def append(self, topic: str, partition: int, batch: pa.RecordBatch, *, whole: bool = False) -> int:
        """Add records (columns of ``embedded_blocks.SCHEMA``); returns the first offset.

        *whole*: a crash leaves all of them or none. Permanent when there is no such log or the disk
        refuses. Does not wait, see :meth:`room`.
        """
        log = self._log(topic, partition)
        if self._directory is not None:
            self._unsynced.add(log)  # also when it fails: some of its blocks may be there
        first = log.append(batch, whole=whole)
        self._wake()
        return first

    def _wake(self) -> None:
        for wake in self._listeners:
            wake()

    async def room(self, topic: str, partition: int, size: int) -> None:
        """Wait until *size* more bytes may be appended."""
        log = self._log(topic, partition)
        while self._is_limited(topic) and log.nbytes and log.nbytes + size > self._partition_bytes:
            freed = self._full.setdefault(log.source, asyncio.Event())
            self._wake()
            await freed.wait()

    def let_appends_pass(self) -> None:
        """A group rebalances: work that waits for room must be able to end, or its commit never comes."""
        for freed in self._full.values():
            freed.set()
        self._full.clear()

    @property
    def full(self) -> bool:
        """Whether an append waits for commits."""
        return bool(self._full)

    def _is_limited(self, topic: str) -> bool:
        readers = [self._groups[group] for group in self._readers[topic]]
        if not self._drops(topic) or any(group.coordinator.in_round for group in readers):
            return False
        return bool(readers) or RETENTION in self._topics[topic].config

    def _drops(self, topic: str) -> bool:
        config = self._topics[topic].config
        default = "committed" if self._directory is None else "all"
        if config.get("cleanup.policy") == "compact" or config.get("retention.ms") == "-1":
            default = "all"
        return config.get(RETENTION, default) == "committed"

    def _log(self, topic: str, partition: int) -> PartitionLog:
        found = self._topics.get(topic)
        if found is None or not 0 <= partition < len(found.logs):
            raise Permanent(
                f"there is no partition {partition} of a topic {topic} to append to",
                where=self.url,
                allowed=sorted(name for name, t in self._topics.items() if t.logs),
            )
        return found.logs[partition]

    async def synced(self) -> None:
        """Return when everything that was appended before the call is durable. Callers share one fsync."""
        if self._directory is None:
            return
        if self._next_sync is None:
            self._next_sync = asyncio.create_task(self._sync(self._syncing))
        await asyncio.shield(self._next_sync)

    async def _sync(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._syncing, self._next_sync = self._next_sync, None
        logs = list(self._unsynced)
        self._unsynced.difference_update(logs)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._disk, _sync_all, logs)
        except BaseException:
            self._unsynced.update(logs)  # the next one must not take them for durable
            raise
        self._wake()

    # ------------------------------------------------------------ reading and groups

    def bounds(self, source: PartitionId) -> Range:
        """First and end position; a feed's end is 0 until it is known. TopicChanged for an old topic id."""
        topic = self._topics.get(source.topic)
        if topic is None or topic.topic_id != source.topic_id:
            raise TopicChanged("the topic was deleted", where=str(source))
        if topic.feeds:
            return Range(0, topic.feeds[source.partition].end() or 0)
        log = topic.logs[source.partition]
        return Range(log.first, log.end)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call *wake* when records are appended or durable, and when appends wait; returns what ends that."""
        self._listeners.append(wake)
        return lambda: self._listeners.remove(wake)

    def reads(self, topic: str, group: str) -> None:
        """From now on records of *topic* are kept until *group* has committed them."""
        self._readers[topic].add(group)

    def group(self, name: str) -> Group:
        """The consumer group *name*."""
        if name not in self._groups:
            self._groups[name] = Group(self, name)
        return self._groups[name]

    async def write_commits(self, group: str, committed: Mapping[PartitionId, int]) -> None:
        """Make the commits of *group* durable."""
        if self._directory is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._disk, self._directory.write_commits, group, committed)

    def kept(self, topic: str) -> Mapping[str, Kept]:
        """The bookmarks that lanes keep beside *topic*, with what the log says of the appends before."""
        if topic not in self._kept and self._directory is not None:
            self._kept[topic] = self._directory.kept(topic)
        return self._kept.get(topic, {})

    async def keep(self, topic: str, lane: str, after: bytes, bookmark: bytes) -> None:
        """Keep *bookmark* for *lane* beside *topic*, as that behind *after*; durable on return."""
        kept = self._kept[topic] = {**self.kept(topic), lane: (after, bookmark)}
        if self._directory is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._disk, self._directory.write_kept, topic, kept)

    def drop_committed(self, source: PartitionId) -> None:
        """Drop what no reading group needs any more, if the topic's retention says so."""
        topic = self._topics.get(source.topic)
        if topic is None or topic.topic_id != source.topic_id:
            return  # the feed of an earlier run, or a deleted topic
        if not topic.logs or not self._drops(topic.name):
            return
        having = {g.name for g in self._groups.values() if source in g.committed}
        needed = [self._groups[g].committed.get(source, 0) for g in having | self._readers[topic.name]]
        topic.logs[source.partition].drop(min(needed))
        if (freed := self._full.pop(source, None)) is not None:
            freed.set()


def _sync_all(logs: Sequence[PartitionLog]) -> None:
    for log in logs:
        log.sync()


class Group:
    """A consumer group: its coordinator and its commits."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.name = name
        self.coordinator: GroupCoordinator[object] = GroupCoordinator(name, broker.clock)
        self.committed: dict[PartitionId, int] = {}
        self._broker = broker
        self._committing = asyncio.Lock()

    async def commit(self, member: str, generation: int, offsets: Mapping[PartitionId, int]) -> None:
        """Store *offsets* durably, and before that all records that were appended so far.

        Fenced when *member* does not own the partitions in *generation*, before or after the sync.
        """
        partitions = [(source.topic, source.partition) for source in offsets]
        await self.store(offsets, lambda: self.coordinator.check(member, generation, partitions))
        for source in offsets:
            self._broker.drop_committed(source)

    async def store(self, offsets: Mapping[PartitionId, int], check: Callable[[], None]) -> None:
        """The same without a member: *check* raises when the caller may not, and drops nothing."""
        check()
        async with self._committing:
            await self._broker.synced()
            check()
            await self._broker.write_commits(self.name, {**self.committed, **offsets})
            self.committed.update(offsets)

    async def settled(self) -> Mapping[PartitionId, int]:
        """The commits, behind any that is under way: a former owner's may have passed its last check."""
        async with self._committing:
            return self.committed
