"""The Faust transport on Kafka, ``streamcore://host:9092``: topics with a ChunkSchema come in chunks.

Faust runs aiokafka's consumer in a thread of its own, which fetches the next response while the
agents work on the last one; when that was little, only once the sinks have been given it. Memory: a
response holds at most ``max_bytes`` of the app's ``streamcore_fetches``, however many partitions there
are; with many of them the broker fills it from a few at a time, aiokafka shuffles which, so that chunks
stay large enough to be cheap.

A partition is read only from where it was sought in this assignment, and each of its chunks begins
where the last one ended. aiokafka never resets a position by itself (``auto_offset_reset`` none):
when the log has lost it, :class:`streamcore.errors.TopicChanged` stops the worker.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from time import monotonic

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from yarl import URL

from streamcore.batch import PartitionId
from streamcore.crashpoints import crash_point
from streamcore.errors import Permanent, TopicChanged, Transient
from streamcore.systems.kafka import DEFAULT_PORT, KafkaConnection, translate
from streamcore.systems.kafka_topic_ids import topic_ids
from streamcore.transport.chunks import ChunkOffsets, Fetched, Fetches
from streamcore.transport.kafka_chunks import arrival, chunk_of_records, fetch_whole, kafka_chunks
from streamcore.transport.whole_batches import WholeBatch

_LEAST_SHARE = 1 << 20
_IDLE_CHECK_SECONDS = 1.0


def faust_options(connection: KafkaConnection) -> dict[str, object]:
    """``faust.App`` arguments that make an app use *connection* through this transport."""
    options: dict[str, object] = {"broker": [URL(f"streamcore://{server}") for server in connection.servers]}
    context = connection.ssl_context()
    if connection.mechanism is not None:
        options["broker_credentials"] = SASLCredentials(
            username=connection.user,
            password=connection.password,
            mechanism=connection.mechanism,
            ssl_context=context,
        )
    elif context is not None:
        options["broker_credentials"] = SSLCredentials(context)
    return options


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread; all methods with an underscore run in it."""

    consumer: Consumer

    async def on_start(self) -> None:
        """Connect; take the fetches over where this aiokafka lets us."""
        self._next: dict[TP, int] = {}  # where each sought partition's next chunk begins
        self._topic_ids: Mapping[str, str] = {}
        self._looked_for_holes = monotonic()
        self._fetches: Fetches = getattr(self.app, "streamcore_fetches", Fetches())
        self._demand = asyncio.Event()
        await super().on_start()
        fetcher = getattr(self._consumer, "_fetcher", None)
        wanted = os.environ.get("STREAMCORE_PUBLIC_FETCH") != "1" and fetcher is not None
        self.whole_batches = wanted and fetch_whole(fetcher, self.consumer.is_chunked, self._demand)

    def _create_worker_consumer(self, transport: Transport) -> AIOKafkaConsumer:
        # Faust's own one leaves out the isolation level, the response's size and "none".
        conf = self.app.conf
        keeps_tables = conf.table_standby_replicas > 0 or bool(self.app.tables.changelog_topics)
        self._assignor = self.app.assignor if keeps_tables else RoundRobinPartitionAssignor
        return AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_bytes=self._fetches.max_bytes,
            max_partition_fetch_bytes=self._fetches.max_bytes,
            fetch_min_bytes=self._fetches.min_bytes,
            fetch_max_wait_ms=round(self._fetches.max_wait * 1000),
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    # ------------------------------------------------------------ assignment and position

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """The first step of a rebalance, from aiokafka's listener in this thread."""
        self._next.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """The second step: nothing is read before the seek that follows."""
        self._next.clear()
        most = self._fetches.max_bytes
        share = max(most // max(1, len(assigned)), _LEAST_SHARE)
        fetcher = self._ensure_consumer()._fetcher
        if hasattr(fetcher, "_max_partition_fetch_bytes"):
            fetcher._max_partition_fetch_bytes = min(share, most)
        await super().on_partitions_assigned(assigned, generation_id)

    async def _seek_wait(self, consumer: AIOKafkaConsumer, partitions: Mapping[TopicPartition, int]) -> None:
        self._next.update({TP(*tp): offset for tp, offset in partitions.items()})
        await super()._seek_wait(consumer, partitions)

    def seek(self, partition: TP, offset: int) -> None:
        """Move one partition, e.g. by an application's own code."""
        self._next[TP(*partition)] = offset
        super().seek(partition, offset)

    async def topic_ids(self, topics: set[str]) -> Mapping[str, str]:
        """The ids of *topics*, which also go into the commits' metadata."""
        self._topic_ids = await self.call_thread(self._ask_for_topic_ids, topics)
        return self._topic_ids

    async def _ask_for_topic_ids(self, topics: set[str]) -> Mapping[str, str]:
        # aiokafka's other requests of a rebalance wait for a broker that restarts; so does this one.
        deadline = monotonic() + self.app.conf.broker_request_timeout
        while True:
            try:
                return await topic_ids(self._ensure_consumer()._client, topics)
            except Transient:
                if monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    def highwater(self, tp: TP) -> int | None:
        """Last known end of *tp*; None when it is not known, also since *tp* has just left in this thread."""
        try:
            end: int | None = super().highwater(tp)
        except (AssertionError, IllegalStateError):
            return None
        return end

    async def commit_metadata(self, tps: Iterable[TP]) -> Mapping[TP, str]:
        """The text stored with the group's commit of each of *tps*, where there is one."""
        coordinator = self._ensure_consumer()._coordinator
        commits = await self.call_thread(
            coordinator.fetch_committed_offsets, [TopicPartition(*tp) for tp in tps]
        )
        return {TP(*tp): commit.metadata for tp, commit in commits.items() if commit.offset >= 0}

    # ------------------------------------------------------------ fetching

    async def getmany(self, active_partitions: frozenset[TP], timeout: float) -> Fetched:
        """What has come for *active_partitions*, within *timeout* seconds; called outside of the thread.

        Not by Faust's queue of methods, whose tasks are felt where rows are few. As there, a fetch that
        nobody waits for any more goes on: broken off, it could lose records that aiokafka has handed out.
        """
        loop = asyncio.get_running_loop()
        fetched: asyncio.Future[Fetched] = loop.create_future()
        fetching = partial(self._fetch_records, self._ensure_consumer(), active_partitions, timeout)
        self.thread_loop.call_soon_threadsafe(self._begin, fetching, loop, fetched)
        return await fetched

    def _begin(
        self,
        fetching: Callable[[], Coroutine[object, object, Fetched]],
        loop: asyncio.AbstractEventLoop,
        fetched: asyncio.Future[Fetched],
    ) -> None:
        """Begin *fetching*, which settles *fetched* of *loop*."""
        self._fetching = self.thread_loop.create_task(fetching())
        self._fetching.add_done_callback(partial(_hand_back, loop, fetched))

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: frozenset[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Fetched:
        try:
            if self.whole_batches:
                found = await self._fetch_whole(consumer, active_partitions, timeout)
            else:
                found = await self._fetch_public(consumer, active_partitions, timeout)
        except OffsetOutOfRangeError as error:
            await self._position_lost(consumer, error)
            found = {}
        except KafkaError as error:
            raise translate(error, "fetching") from error
        # Read here, right after the records were taken: what comes with a rebalance is told apart.
        generation = consumer._coordinator.generation
        ready: dict[TP, list[object]] = {}
        for aiokafka_tp, records in found.items():
            tp = TP(*aiokafka_tp)
            if self.consumer.is_changelog(tp):
                ready[tp] = records
            elif tp in self._next:  # others were fetched before their seek, which will come back to it
                chunked = self.consumer.is_chunked(tp.topic)
                ready[tp] = await self._chunks(consumer, tp, records) if chunked else records
        if not ready or monotonic() - self._looked_for_holes > _IDLE_CHECK_SECONDS:
            await self._cover_holes(consumer, active_partitions, ready)
        return Fetched(ready, generation)

    async def _fetch_whole(
        self, consumer: AIOKafkaConsumer, active: frozenset[TP], timeout: float | None
    ) -> Mapping[TopicPartition, list[object]]:
        time = self.thread_loop.time
        until = time() + (timeout or 0)
        while True:
            found: Mapping[TopicPartition, list[object]] = await super()._fetch_records(consumer, active, 0)
            if found or not self.consumer.flow_active or time() >= until:
                return found
            self._demand.set()
            await arrival(consumer._fetcher, until)

    async def _fetch_public(
        self, consumer: AIOKafkaConsumer, active: frozenset[TP], timeout: float | None
    ) -> Mapping[TopicPartition, list[object]]:
        if not self.consumer.flow_active:
            return {}
        wanted = [TopicPartition(*tp) for tp in active]
        owned = [tp for tp in wanted if tp in consumer.assignment()]
        found: Mapping[TopicPartition, list[object]] = (
            await consumer.getmany(*owned, timeout_ms=int((timeout or 0) * 1000)) if owned else {}
        )
        return found

    async def _chunks(self, consumer: AIOKafkaConsumer, tp: TP, records: list[object]) -> list[object]:
        first = self._next[tp]
        try:
            end = await consumer.position(TopicPartition(*tp))
        except IllegalStateError:
            return []  # it has left meanwhile
        if self._next.get(tp) != first:
            return []  # it has left, or was sought: what was fetched before that comes again, or elsewhere
        self._next[tp] = end
        source = PartitionId(tp.topic, tp.partition, self._topic_ids[tp.topic])
        batches = [b for b in records if isinstance(b, WholeBatch)]
        if len(batches) == len(records):
            return list(kafka_chunks(source, first, end, batches))
        return [chunk_of_records(source, first, end, records)]

    async def _cover_holes(
        self, consumer: AIOKafkaConsumer, active: frozenset[TP], ready: dict[TP, list[object]]
    ) -> None:
        # Aborted transactions and markers move the position on without a record: an empty chunk.
        self._looked_for_holes = monotonic()
        for tp in active & set(self._next) - set(ready):
            if tp in self._next and self.consumer.is_chunked(tp.topic):  # others may leave at each await
                chunks = await self._chunks(consumer, tp, [])
                if chunks:
                    ready[tp] = chunks

    async def _position_lost(self, consumer: AIOKafkaConsumer, error: OffsetOutOfRangeError) -> None:
        for tp, position in error.args[0].items():
            if self.consumer.is_chunked(tp.topic):
                raise _log_has_lost(tp, position, await consumer.beginning_offsets([tp]))
            if self.app.conf.consumer_auto_offset_reset == "latest" and not self.consumer.is_changelog(
                TP(*tp)
            ):
                await consumer.seek_to_end(tp)
            else:
                await consumer.seek_to_beginning(tp)

    # ------------------------------------------------------------ committing

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer, owned = self._ensure_consumer(), self.assignment()
        commits = {
            TopicPartition(*tp): OffsetAndMetadata(offset, self._topic_ids.get(tp.topic, ""))
            for tp, offset in offsets.items()
            if tp in owned
        }
        self.tp_last_committed_at.update(dict.fromkeys(offsets, monotonic()))
        crash_point("commit.before")
        try:
            await consumer.commit(commits)
        except (CommitFailedError, IllegalStateError):
            self.log.info(
                "Not committed, the partitions have left: their new owner goes on from the last commit"
            )
            return False
        except KafkaError as error:
            problem = translate(error, "committing offsets")
            self.log.warning("Not committed: %s", problem)
            if isinstance(problem, Permanent):
                await self.crash(problem)
            return False
        crash_point("commit.after")
        return True


class Consumer(ChunkOffsets, driver.Consumer):  # type: ignore[misc]
    """Faust's Kafka consumer, with chunks."""

    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def topic_ids(self, topics: set[str]) -> Mapping[str, str]:
        """``cluster id/topic uuid`` of each of *topics*."""
        return await self._thread.topic_ids(topics)

    async def check_commits(self, sources: Mapping[TP, PartitionId]) -> None:
        """A commit that carries another topic id is of a topic that is gone."""
        for tp, stored in (await self._thread.commit_metadata(sources)).items():
            if stored and stored != sources[tp].topic_id:
                raise TopicChanged(
                    f"topic {tp.topic} was deleted and made again since this group last read it",
                    where=f"{tp.topic}/{tp.partition}",
                    got=sources[tp].topic_id,
                    allowed=[stored],
                    fix=f"delete the consumer group {self.app.conf.id} to read the new topic from its start",
                )

    async def check_positions(self, positions: Mapping[TP, int]) -> None:
        """Positions must lie within the log."""
        tps = [TopicPartition(*tp) for tp in positions]
        starts, ends = await asyncio.gather(self.earliest_offsets(*tps), self.highwaters(*tps))
        for tp in tps:
            if not starts[tp] <= positions[TP(*tp)] <= ends[tp]:
                raise _log_has_lost(tp, positions[TP(*tp)], starts)

    def is_changelog(self, tp: TP) -> bool:
        """Whether *tp* belongs to a Faust table."""
        return bool(self._is_changelog_tp(tp))


class Transport(driver.Transport):  # type: ignore[misc]
    """Entry point ``streamcore`` of ``faust.transports``."""

    Consumer = Consumer
    default_port = DEFAULT_PORT
    driver_version = f"streamcore on {driver.Transport.driver_version}"


def _hand_back(
    loop: asyncio.AbstractEventLoop, fetched: asyncio.Future[Fetched], task: asyncio.Task[Fetched]
) -> None:
    """The outcome of *task* to *fetched*, which is of another thread's *loop* and may have been given up."""

    failure = None if task.cancelled() else task.exception()

    def settle() -> None:
        if fetched.done():
            return
        if task.cancelled():
            fetched.cancel()
        elif failure is not None:
            fetched.set_exception(failure)
        else:
            fetched.set_result(task.result())

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


def _log_has_lost(tp: TopicPartition, position: int, starts: Mapping[TopicPartition, int]) -> TopicChanged:
    where = f"{tp.topic}/{tp.partition}/{position}"
    if position < starts[tp]:
        return TopicChanged(
            f"the topic's retention has deleted records that were not read: "
            f"position {position}, the log starts at {starts[tp]}",
            where=where,
            fix="keep records longer (retention.ms, retention.bytes), and move the consumer group to a "
            "position of your choice",
        )
    return TopicChanged(
        f"the position {position} lies beyond the end of the log: the topic was made again or truncated",
        where=where,
        fix="move the consumer group to a position of your choice",
    )
