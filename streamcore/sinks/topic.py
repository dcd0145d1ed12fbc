"""A topic as a sink: rows to records of the broker that the worker runs on, Kafka or embedded.

::

    late.to(sc.sinks.Topic("late-flights", key="origin"))
    late.to(sc.sinks.Topic("late-flights", key="origin", guarantee="exactly-once"))

At least once, unless it is told otherwise: after a crash, rows behind the last commit are written again. Each
record says where its row came from, so that readers can fold repeats: ``sc-position`` is 20 bytes, 8 that
name the source (the start of the SHA-256 of ``topic id/partition``), the offset there (int64, big-endian) and
the row's place in that record (uint32).

Exactly once by transactions (:mod:`.exact_topic`), for readers of committed records.

The rows of a table (``by(…).aggregate(…)``) have its key for the record's key, and what leaves the table is a
tombstone: a compacted topic keeps the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Literal, get_args

import polars as pl

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import FlushReason, Format, Log, Records, SinkAbilities, SinkContext, SinkWriter
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.formats import format_named
from streamcore.secrets import mask_url, resolve
from streamcore.sinks.appending import AppendingWriter
from streamcore.sinks.exact_topic import ExactTopicWriter
from streamcore.sinks.topic_records import RecordMaker
from streamcore.systems.kafka import KafkaConnection, probe
from streamcore.transport.kafka_log import KafkaLog

Guarantee = Literal["at-least-once", "exactly-once"]
MOST_COMMIT_SECONDS = 5.0
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
"""Configuration of topics that are made: Kafka's retention would soon delete records with old times."""


@dataclass(frozen=True)
class Topic:
    """Rows as records of *topic*, in *format*.

    ``key``: columns whose text (joined by ``|``) is the record's key; by default the stream's key, and
    without one the key of the record that the row came from. Keys choose the partition as Kafka's own
    clients do. The record's time is the stream's event time, otherwise that of the source record.

    With ``create`` a missing topic is made with ``partitions`` and ``config``, by default with the
    broker's clock in its records, since Kafka's retention would soon delete records with old times.
    ``position_headers``: write ``sc-position``. ``name``: the sink's stable name.

    ``guarantee``: "exactly-once" writes in transactions, one for each partition that is read, which are
    committed every ``commit_seconds`` as long as rows come (0.1: more costs latency, less costs the broker
    work).

    ``url``: another cluster than the worker's, ``kafka://…`` as of ``broker.url``; may hold references.
    """

    topic: str
    key: str | Sequence[str] | None = None
    format: str | Format = "json"
    _: KW_ONLY
    position_headers: bool = True
    create: bool = False
    partitions: int = 4
    config: Mapping[str, str] = field(default_factory=lambda: dict(APPEND_TIME))
    name: str = ""
    guarantee: Guarantee = "at-least-once"
    commit_seconds: float = 0.1
    url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.topic:
            raise BadConfig("a topic sink needs the name of a topic", got=self.topic)
        if self.partitions < 1:
            raise BadConfig("partitions must be at least 1", got=self.partitions)
        if isinstance(self.format, str):
            format_named(self.format)
        self._check_guarantee()
        object.__setattr__(self, "name", self.name or f"topic:{self.topic}")

    def _check_guarantee(self) -> None:
        if self.guarantee not in get_args(Guarantee):
            raise BadConfig("no such guarantee", got=self.guarantee, allowed=get_args(Guarantee))
        if not 0 <= self.commit_seconds <= MOST_COMMIT_SECONDS:
            allowed = [f"0 to {MOST_COMMIT_SECONDS}"]
            raise BadConfig("commit_seconds is out of range", got=self.commit_seconds, allowed=allowed)
        if self.exact and not self.position_headers:
            raise BadConfig(
                "an exactly-once topic needs its position headers: the embedded log goes by them",
                fix="leave position_headers away",
            )

    @property
    def exact(self) -> bool:
        """Whether rows are written exactly once."""
        return self.guarantee == "exactly-once"

    @property
    def abilities(self) -> SinkAbilities:
        """Appends; rows of a table update by the record's key."""
        return SinkAbilities(
            upsert=True,
            delete=True,
            transactional=self.exact,
            stores_positions=self.exact,
            key=self.key_columns,
            timer_seconds=max(self.commit_seconds, 0.01) if self.exact else 1.0,
        )

    @property
    def target(self) -> str:
        """Where the rows are, for people."""
        if self.url is None:
            return self.topic
        return f"{mask_url(self.url).partition('?')[0].rstrip('/')}/{self.topic}"

    @property
    def own_topic(self) -> str | None:
        """See :class:`streamcore.contracts.WritesTopic`."""
        return self.topic if self.url is None else None

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of ``key``."""
        return () if self.key is None else (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def written_format(self) -> Format:
        """The format itself."""
        return format_named(self.format) if isinstance(self.format, str) else self.format

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for a key column that is missing or nested, or a type that the format can't hold."""
        for name in self.key_columns:
            if name not in columns:
                raise BadConfig(
                    f"key column {name!r} does not exist",
                    allowed=columns.names(),
                    fix=did_you_mean(name, columns.names()),
                )
            if columns[name].is_nested() or columns[name] == pl.Object:
                raise BadConfig(f"column {name!r} can't be a key", got=str(columns[name]))
        for name, dtype in columns.items():
            if dtype == pl.Object:
                raise BadConfig(f"column {name!r} has a type that no format can write", got=str(dtype))
        self.written_format.encode(pl.DataFrame(schema=columns))

    def writer(self, context: SinkContext) -> SinkWriter:
        """The live writer."""
        if self.url is not None:
            return ElsewhereWriter(replace(self, url=None), resolve(self.url), context)
        kept = context.event_time in context.columns if context.event_time is not None else False
        records = RecordMaker(
            format=self.written_format,
            keys=self.key_columns or tuple(k for k in context.key if k in context.columns),
            time=context.event_time if kept else None,
            position_headers=self.position_headers,
            clock=context.clock,
        )
        if self.exact:

            async def ready(log: Log) -> None:
                await self.make_topic(log)
                await records.start(self.topic, context.columns)

            return ExactTopicWriter(self.topic, ready, records.of, context, self.commit_seconds)
        return TopicWriter(self, context, records)

    def plan(self, columns: pl.Schema) -> list[str]:
        """See :class:`streamcore.contracts.Preparing`; by Kafka's own tool."""
        if not self.create:
            return []
        settings = "".join(f" --config {name}={value}" for name, value in self.config.items())
        made = f"kafka-topics.sh --create --if-not-exists --topic {self.topic}"
        return [f"{made} --partitions {self.partitions}{settings}"]

    async def make_topic(self, log: Log) -> None:
        """Make the topic in *log* if it is missing and may be made, otherwise Permanent."""
        if await log.bounds(self.topic):
            return
        if not self.create:
            raise Permanent(f"topic {self.topic} does not exist", fix="create it, or set create=True")
        await log.create(self.topic, self.partitions, self.config)


class TopicWriter(AppendingWriter):
    """The live part of a :class:`Topic` that is written at least once."""

    def __init__(self, sink: Topic, context: SinkContext, records: RecordMaker) -> None:
        super().__init__(context.log, sink.topic, context.crash_point, "topic.confirmed")
        self._sink, self._maker, self._columns = sink, records, context.columns

    async def start(self) -> None:
        """Permanent when the topic does not exist and must not be made, or for refused columns."""
        await self._sink.make_topic(self._log)
        await self._maker.start(self._sink.topic, self._columns)

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """The sink has no positions of its own."""
        self._confirmed.update(partitions)
        return dict(partitions)

    def _records(self, batches: Sequence[Batch]) -> Records | None:
        return self._maker.of(batches)


class ElsewhereWriter:
    """The writer of a topic of another cluster: connected to when it starts, closed with it."""

    def __init__(self, sink: Topic, url: str, context: SinkContext) -> None:
        self._sink, self._url, self._log = sink, url, KafkaLog(KafkaConnection.parse(url))
        self._writer = sink.writer(replace(context, log=self._log))

    async def reach(self) -> None:
        await probe(self._url)
        if not self._sink.create:
            await self._sink.make_topic(self._log)  # says that there is none

    async def start(self) -> None:
        """Says what is wrong with the address, which clients do not."""
        await probe(self._url)
        await self._writer.start()

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        return await self._writer.open(partitions)

    async def write(self, batch: Batch) -> None:
        await self._writer.write(batch)

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        return await self._writer.flush(reason)

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        await self._writer.release(partitions)

    async def close(self) -> None:
        try:
            await self._writer.close()
        finally:
            await self._log.close()
