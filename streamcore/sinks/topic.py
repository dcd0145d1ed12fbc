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
from itertools import chain

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.batch import HIDDEN, OFFSET, SUB, Batch, Int64s, PartitionId
from streamcore.contracts import FlushReason, Format, Records, SinkAbilities, SinkContext
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.formats import format_named

POSITION_HEADER = "sc-position"
APPEND_ROWS = 16_384
"""Held rows that are appended at once; fewer wait for more until the next flush."""
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


@dataclass(frozen=True, slots=True)
class _Sent:
    """Batches that were appended together: ``outcome`` is None when they had no rows."""

    batches: Sequence[Batch]
    outcome: asyncio.Future[None] | None

    @property
    def failure(self) -> BaseException | None:
        """Why the append failed; None when it did not, or is still on its way."""
        return self.outcome.exception() if self.outcome is not None and self.outcome.done() else None


class TopicWriter:
    """Collects batches, appends them together, and confirms, in order, what the log has acknowledged.

    An append costs milliseconds however few its rows are, and the log takes one batch a partition at a
    time: what comes meanwhile waits and goes as one. After a failed append nothing behind it is
    confirmed; all of that is held again, in order, and the next call appends it.
    """

    def __init__(self, sink: Topic, context: SinkContext) -> None:
        self._sink, self._context = sink, context
        self._format = sink.written_format
        self._keys = sink.key_columns or tuple(k for k in context.key if k in context.columns)
        time = context.event_time
        kept = time is not None and time in context.columns
        self._time = time if kept else None
        self._held: list[Batch] = []
        self._held_rows = 0
        self._sent: deque[_Sent] = deque()
        self._confirmed: dict[PartitionId, int] = {}

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
        """Hold the rows; with many of them append what is held."""
        self._collect()  # before the append: nothing may overtake what failed
        if self._held_rows + len(batch) >= APPEND_ROWS:
            await self._append([*self._held, batch])  # not held yet: after an error it is written again
        else:
            self._held.append(batch)
            self._held_rows += len(batch)

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        """Append what is held; with END, REVOKE and PRESSURE also wait for everything."""
        self._collect()
        if self._held:
            await self._append(self._held)
        if reason in _LASTING:
            outcomes = [sent.outcome for sent in self._sent if sent.outcome is not None]
            if outcomes:
                await asyncio.wait(outcomes)  # unlike gather it cancels none of them when it is cancelled
        self._collect()
        return dict(self._confirmed)

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        """Forget *partitions*, with what is held of them; what is on its way is not taken back."""
        gone = set(partitions)
        self._hold([b for b in self._held if b.source not in gone])
        left = [([b for b in sent.batches if b.source not in gone], sent.outcome) for sent in self._sent]
        self._sent = deque(_Sent(batches, outcome) for batches, outcome in left if batches)
        for source in gone:
            self._confirmed.pop(source, None)

    async def close(self) -> None:
        """Nothing is held open; the log belongs to the worker."""
        self._hold([])
        self._sent.clear()

    def _hold(self, batches: list[Batch]) -> None:
        self._held, self._held_rows = batches, sum(map(len, batches))

    def _collect(self) -> None:
        """Confirm what is acknowledged; raises the first failure."""
        failure = next((sent.failure for sent in self._sent if sent.failure is not None), None)
        if failure is not None:
            self._hold([*(b for sent in self._sent for b in sent.batches), *self._held])
            self._sent.clear()
            raise failure
        while self._sent and ((first := self._sent[0]).outcome is None or first.outcome.done()):
            self._sent.popleft()
            self._confirmed.update((batch.source, batch.range.end) for batch in first.batches)
            self._context.crash_point("topic.confirmed")

    async def _append(self, batches: list[Batch]) -> None:
        full = [batch for batch in batches if len(batch)]
        outcome = None
        if full:
            outcome = _future(await self._context.log.append(self._sink.topic, self._records(full)))
        self._sent.append(_Sent(batches, outcome))
        self._hold([])

    # ------------------------------------------------------------ rows to records

    def _records(self, batches: Sequence[Batch]) -> Records:
        frame = batches[0].frame if len(batches) == 1 else pl.concat([b.frame for b in batches], rechunk=True)
        return Records(
            values=self._format.encode(frame.drop(HIDDEN)),
            timestamps=self._timestamps(frame, batches),
            keys=record_keys(frame, self._keys) if self._keys else _source_keys(batches),
            headers=((POSITION_HEADER, _positions(batches)),) if self._sink.position_headers else (),
        )

    def _timestamps(self, frame: pl.DataFrame, batches: Sequence[Batch]) -> Int64s:
        now = int(self._context.clock() * 1000)
        if self._time is None:
            found = [(b.timestamps(), len(b)) for b in batches]
            return np.concatenate([np.full(n, now, np.int64) if t is None else t for t, n in found])
        # Kafka has no times before 1970, and refuses the batch for one that is far in the future.
        times = frame[self._time]
        if times.dtype.is_temporal():  # otherwise it is in milliseconds already
            times = times.cast(pl.Datetime("ms")).to_physical()
        return np.asarray(times.fill_null(now).clip(0, now), np.int64)


def _source_keys(batches: Sequence[Batch]) -> pa.BinaryArray | None:
    """The key of the record that each row came from; None when no source has keys."""
    if all(batch.chunk.frame is not None for batch in batches):
        return None
    keys = [[None] * len(b) if b.chunk.frame is not None else b.keys() for b in batches]
    return pa.array(chain.from_iterable(keys), pa.binary())


def _positions(batches: Sequence[Batch]) -> pa.BinaryArray:
    found = [positions(batch.frame, source_name(batch.source)) for batch in batches]
    return found[0] if len(found) == 1 else pa.concat_arrays(found)


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
