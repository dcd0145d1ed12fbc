"""A topic as a sink: rows to records of the broker that the worker runs on, Kafka or embedded.

::

    late.to(sc.sinks.Topic("late-flights", key="origin"))

At least once: after a crash, rows behind the last commit are written again. Each record says where its
row came from, so that readers can fold repeats: ``sc-position`` is 20 bytes, 8 that name the source (the
start of the SHA-256 of ``topic id/partition``), the offset there (int64, big-endian) and the row's place
in that record (uint32).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.batch import OFFSET, SUB, Batch, Int64s, PartitionId
from streamcore.contracts import FlushReason, Format, Header, Records, SinkAbilities, SinkContext
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.formats import format_named

POSITION_HEADER = "sc-position"
_POSITION = np.dtype([("source", "S8"), ("offset", ">i8"), ("sub", ">u4")])
_LASTING = (FlushReason.END, FlushReason.REVOKE, FlushReason.PRESSURE)
_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True)
class Topic:
    """Rows as records of *topic*, in *format*.

    ``key``: columns whose text (joined by ``|``) is the record's key; by default the stream's key, and
    without one the key of the record that the row came from. Keys choose the partition as Kafka's own
    clients do. The record's time is the stream's event time, otherwise that of the source record.

    With ``create`` a missing topic is made with ``partitions`` and ``config``, by default with the
    broker's clock in its records, since Kafka's retention would soon delete records with old times.
    ``position_headers``: write ``sc-position``. ``name``: the sink's stable name.
    """

    topic: str
    key: str | Sequence[str] | None = None
    format: str | Format = "json"
    _: KW_ONLY
    position_headers: bool = True
    create: bool = False
    partitions: int = 4
    config: Mapping[str, str] = field(default_factory=lambda: dict(_APPEND_TIME))
    name: str = ""

    def __post_init__(self) -> None:
        if not self.topic:
            raise BadConfig("a topic sink needs the name of a topic", got=self.topic)
        if self.partitions < 1:
            raise BadConfig("partitions must be at least 1", got=self.partitions)
        if isinstance(self.format, str):
            format_named(self.format)
        object.__setattr__(self, "name", self.name or f"topic:{self.topic}")

    @property
    def abilities(self) -> SinkAbilities:
        """Appends; positions are the group's commit."""
        return SinkAbilities(stores_positions=False)

    @property
    def target(self) -> str:
        """Where the rows are, for people."""
        return self.topic

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

    def writer(self, context: SinkContext) -> TopicWriter:
        """The live writer."""
        return TopicWriter(self, context)


@dataclass(slots=True)
class _Sent:
    """A batch on its way: ``outcome`` is None when it had no rows."""

    source: PartitionId
    end: int
    records: Records | None
    outcome: asyncio.Future[None] | None


class TopicWriter:
    """Hands batches to the log and confirms, in order, what it has acknowledged.

    After a failed send nothing behind it is confirmed; the next call sends it and all later batches
    again, in order.
    """

    def __init__(self, sink: Topic, context: SinkContext) -> None:
        self._sink, self._context = sink, context
        self._format = sink.written_format
        self._keys = sink.key_columns or tuple(k for k in context.key if k in context.columns)
        time = context.event_time
        kept = time is not None and time in context.columns
        self._time = time if kept else None
        self._sent: deque[_Sent] = deque()
        self._confirmed: dict[PartitionId, int] = {}
        self._failed = False

    async def start(self) -> None:
        """Permanent when the topic does not exist and is not to be made."""
        topic, log = self._sink.topic, self._context.log
        if await log.bounds(topic):
            return
        if not self._sink.create:
            raise Permanent(f"topic {topic} does not exist", fix="create it, or set create=True")
        await log.create(topic, self._sink.partitions, self._sink.config)

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """The sink has no positions of its own."""
        self._confirmed.update(partitions)
        return dict(partitions)

    async def write(self, batch: Batch) -> None:
        """Hand the rows over; they are acknowledged later."""
        await self._send_again()
        self._collect()  # before the append: nothing may overtake what failed
        sent = _Sent(batch.source, batch.range.end, self._records(batch) if len(batch) else None, None)
        await self._append(sent)  # before it is noted: after an error the caller writes it again
        self._sent.append(sent)

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        """What is acknowledged; with END, REVOKE and PRESSURE everything is waited for."""
        await self._send_again()
        if reason in _LASTING:
            outcomes = [sent.outcome for sent in self._sent if sent.outcome is not None]
            if outcomes:
                await asyncio.wait(outcomes)  # unlike gather it cancels none of them when it is cancelled
        self._collect()
        return dict(self._confirmed)

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        """Forget what is on its way for *partitions*; it is not taken back."""
        gone = set(partitions)
        self._sent = deque(sent for sent in self._sent if sent.source not in gone)
        for source in gone:
            self._confirmed.pop(source, None)

    async def close(self) -> None:
        """Nothing is held open; the log belongs to the worker."""
        self._sent.clear()

    def _collect(self) -> None:
        for sent in self._sent:
            error = sent.outcome.exception() if sent.outcome is not None and sent.outcome.done() else None
            if error is not None:
                self._failed = True
                raise error
        while self._sent and ((first := self._sent[0]).outcome is None or first.outcome.done()):
            self._sent.popleft()
            self._confirmed[first.source] = first.end
            self._context.crash_point("topic.confirmed")

    async def _send_again(self) -> None:
        if not self._failed:
            return
        for sent in self._sent:
            await self._append(sent)
        self._failed = False

    async def _append(self, sent: _Sent) -> None:
        if sent.records is not None:
            sent.outcome = _future(await self._context.log.append(self._sink.topic, sent.records))

    # ------------------------------------------------------------ rows to records

    def _records(self, batch: Batch) -> Records:
        return Records(
            values=self._format.encode(batch.rows),
            timestamps=self._timestamps(batch),
            keys=self._key_values(batch),
            headers=self._headers(batch),
        )

    def _headers(self, batch: Batch) -> tuple[Header, ...]:
        if not self._sink.position_headers:
            return ()
        return ((POSITION_HEADER, positions(batch.frame, source_name(batch.source))),)

    def _key_values(self, batch: Batch) -> pa.BinaryArray | None:
        if self._keys:
            return record_keys(batch.frame, self._keys)
        if batch.chunk.frame is not None:
            return None
        return pa.array(batch.keys(), pa.binary())

    def _timestamps(self, batch: Batch) -> Int64s:
        found = batch.timestamps() if self._time is None else None
        if found is not None:
            return found
        now = int(self._context.clock() * 1000)
        if self._time is None:
            return np.full(len(batch), now, np.int64)
        # Kafka has no times before 1970, and refuses the batch for one that is far in the future.
        times = batch.frame[self._time]
        if times.dtype.is_temporal():  # otherwise it is in milliseconds already
            times = times.cast(pl.Datetime("ms")).to_physical()
        return np.asarray(times.fill_null(now).clip(0, now), np.int64)


def record_keys(frame: pl.DataFrame, columns: Sequence[str]) -> pa.BinaryArray:
    """The text of *columns* (at least one), joined by ``|``, for each row; null where one of them is."""
    if len(columns) > 1:
        joined = pl.concat_str(columns, separator="|").cast(pl.Binary)
        return frame.select(joined).to_series().to_arrow().cast(pa.binary())
    only = frame[columns[0]]
    keys = only if only.dtype == pl.Binary else only.cast(pl.String).cast(pl.Binary)
    return keys.to_arrow().cast(pa.binary())


def source_name(source: PartitionId) -> bytes:
    """The 8 bytes by which ``sc-position`` names *source*."""
    return hashlib.sha256(f"{source.topic_id}/{source.partition}".encode()).digest()[:8]


def positions(frame: pl.DataFrame, source: bytes) -> pa.BinaryArray:
    """The 20 bytes of ``sc-position`` for each row of *frame*; *source* is a :func:`source_name`."""
    packed = np.empty(frame.height, _POSITION)
    packed["source"] = source  # zeros at its end are numpy's padding as well
    packed["offset"], packed["sub"] = frame[OFFSET].to_numpy(), frame[SUB].to_numpy()
    starts = np.arange(frame.height + 1, dtype=np.int32) * _POSITION.itemsize
    return pa.Array.from_buffers(
        pa.binary(), frame.height, [None, pa.py_buffer(starts), pa.py_buffer(packed)]
    )


def _future(outcome: Awaitable[None]) -> asyncio.Future[None]:
    future = asyncio.ensure_future(outcome)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
