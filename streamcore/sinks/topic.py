"""A topic as a sink: rows to records of the broker that the worker runs on, Kafka or embedded.

::

    late.to(sc.sinks.Topic("late-flights", key="origin"))

At least once: after a crash, rows behind the last commit are written again. Each record says where its
row came from, so that readers can fold repeats: ``sc-position`` is 20 bytes, 8 that name the source (the
start of the SHA-256 of ``topic id/partition``), the offset there (int64, big-endian) and the row's place
in that record (uint32).

The rows of a table (``by(…).aggregate(…)``) have its key for the record's key, and what leaves the table is a
tombstone: a compacted topic keeps the table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from itertools import chain

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from streamcore.batch import (
    OFFSET,
    OP,
    OP_DELETE,
    OP_UPDATE_BEFORE,
    SUB,
    Batch,
    Int64s,
    PartitionId,
    user_columns,
)
from streamcore.contracts import Format, Records, SinkAbilities, SinkContext
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.formats import format_named
from streamcore.sinks.appending import AppendingWriter

POSITION_HEADER = "sc-position"
_POSITION = np.dtype([("source", "S8"), ("offset", ">i8"), ("sub", ">u4")])
_GONE = np.array([OP_DELETE, OP_UPDATE_BEFORE], np.uint8)
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
        """Appends; rows of a table update by the record's key. Positions are the group's commit."""
        return SinkAbilities(upsert=True, delete=True, stores_positions=False, key=self.key_columns)

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


class TopicWriter(AppendingWriter):
    """The live part of :class:`Topic`."""

    def __init__(self, sink: Topic, context: SinkContext) -> None:
        super().__init__(context.log, sink.topic, context.crash_point, "topic.confirmed")
        self._sink, self._context = sink, context
        self._format = sink.written_format
        self._keys = sink.key_columns or tuple(k for k in context.key if k in context.columns)
        time = context.event_time
        kept = time is not None and time in context.columns
        self._time = time if kept else None

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

    # ------------------------------------------------------------ rows to records

    def _records(self, batches: Sequence[Batch]) -> Records | None:
        batches = [batch for batch in batches if len(batch)]
        if not batches:
            return None
        frame = batches[0].frame if len(batches) == 1 else pl.concat([b.frame for b in batches], rechunk=True)
        return Records(
            values=self._values(frame),
            timestamps=self._timestamps(frame, batches),
            keys=record_keys(frame, self._keys) if self._keys else _source_keys(batches),
            headers=((POSITION_HEADER, self._positions(frame, batches)),)
            if self._sink.position_headers
            else (),
        )

    def _values(self, frame: pl.DataFrame) -> pa.BinaryArray:
        """The rows in the format; a row that leaves its table is a tombstone."""
        values = self._format.encode(user_columns(frame))
        changes = frame[OP].to_numpy()
        if not changes.any():  # inserts, as nearly always
            return values
        return pc.if_else(pl.Series(np.isin(changes, _GONE)).to_arrow(), None, values)

    def _positions(self, frame: pl.DataFrame, batches: Sequence[Batch]) -> pa.BinaryArray:
        names = np.array([source_name(batch.source) for batch in batches], "S8")
        return positions(frame, np.repeat(names, [len(batch) for batch in batches]))

    def _timestamps(self, frame: pl.DataFrame, batches: Sequence[Batch]) -> Int64s:
        now = int(self._context.clock() * 1000)
        if self._time is None:
            found = [(b.timestamps(), len(b)) for b in batches]
            return np.concatenate([np.full(n, now, np.int64) if t is None else t for t, n in found])
        # Kafka has no times before 1970, and refuses the batch for one that is far in the future.
        times = frame[self._time]
        if times.dtype.is_temporal():  # otherwise it is in milliseconds already
            times = times.cast(pl.Datetime("ms")).to_physical()
        times = times.cast(pl.Int64, strict=False)
        # By numpy: on few rows a call of polars costs a hundred times more.
        known = (times.fill_null(now) if times.has_nulls() else times).to_numpy()
        return np.asarray(np.clip(known, 0, now), np.int64)


def _source_keys(batches: Sequence[Batch]) -> pa.BinaryArray | None:
    """The key of the record that each row came from; None when no source has keys."""
    if all(batch.chunk.frame is not None for batch in batches):
        return None
    keys = [[None] * len(b) if b.chunk.frame is not None else b.keys() for b in batches]
    return pa.array(chain.from_iterable(keys), pa.binary())


def record_keys(frame: pl.DataFrame, columns: Sequence[str]) -> pa.BinaryArray:
    """The text of *columns* (at least one), joined by ``|``, for each row; null where one of them is."""
    if len(columns) > 1:
        joined = pl.concat_str(columns, separator="|").cast(pl.Binary)
        return frame.select(joined).to_series().to_arrow().cast(pa.binary())
    only = frame[columns[0]]
    keys = only if only.dtype == pl.Binary else only.cast(pl.String).cast(pl.Binary)
    return keys.to_arrow().cast(pa.binary())


@lru_cache(maxsize=1024)
def source_name(source: PartitionId) -> bytes:
    """The 8 bytes by which ``sc-position`` names *source*."""
    return hashlib.sha256(f"{source.topic_id}/{source.partition}".encode()).digest()[:8]


def positions(frame: pl.DataFrame, source: bytes | npt.NDArray[np.bytes_]) -> pa.BinaryArray:
    """The 20 bytes of ``sc-position`` for each row of *frame*.

    *source* is the :func:`source_name` of all of them, or of each, shape (rows,).
    """
    packed = np.empty(frame.height, _POSITION)
    packed["source"] = source  # zeros at its end are numpy's padding as well
    packed["offset"], packed["sub"] = frame[OFFSET].to_numpy(), frame[SUB].to_numpy()
    starts = np.arange(frame.height + 1, dtype=np.int32) * _POSITION.itemsize
    return pa.Array.from_buffers(
        pa.binary(), frame.height, [None, pa.py_buffer(starts), pa.py_buffer(packed)]
    )
