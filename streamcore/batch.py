"""What moves through a topology: raw chunks, columnar batches, and the rows that were refused.

A **chunk** is what a source delivered at once for one partition, still raw. A **batch** is a polars
frame made from (part of) one chunk, together with the source positions that it covers. **Rejects**
are the rows of a chunk that some stage refused.

Positions are 64-bit integers that grow along a partition. They need not be dense: a Kafka offset, a
row number of a Parquet file or the byte at which a CSV record starts all serve. A row's identity is
``(source, _offset, _sub)``.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

Int64s: TypeAlias = npt.NDArray[np.int64]

OFFSET, SUB, OP = "_offset", "_sub", "_op"
HIDDEN = (OFFSET, SUB, OP)
"""Columns of every batch's frame that the user's expressions can't see.

``_offset`` Int64: the record's position in its partition. ``_sub`` UInt32: the row's place when one
record made several rows, otherwise 0. ``_op`` UInt8: one of the ``OP_…`` constants.
"""
HIDDEN_TYPES = pl.Schema({OFFSET: pl.Int64, SUB: pl.UInt32, OP: pl.UInt8})
OP_INSERT, OP_UPDATE_BEFORE, OP_UPDATE_AFTER, OP_DELETE = 0, 1, 2, 3
DELETES = pl.col(OP).is_in([OP_DELETE, OP_UPDATE_BEFORE])
"""Whether a row takes the one with its key away and puts none in its place."""


class PartitionId(NamedTuple):
    """A source partition for good: the topic's name can come back, its id cannot.

    ``topic_id`` is "cluster/uuid" for Kafka and a hash of what is read for a bounded stream.
    """

    topic: str
    partition: int
    topic_id: str

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class Range(NamedTuple):
    """Half-open range of positions ``[start, end)``; it may hold positions without a record."""

    start: int
    end: int


class Original(NamedTuple):
    """A record as it came: ``data`` (None: tombstone), ``encoding`` "bytes" or "arrow" (IPC, 1 row)."""

    data: bytes | None
    encoding: str


REJECT_TYPES = pl.Schema(
    {OFFSET: pl.Int64, SUB: pl.UInt32, "stage": pl.String, "code": pl.String, "message": pl.String}
)


_NO_REJECTS = pl.DataFrame(schema=REJECT_TYPES)


@dataclass(frozen=True, slots=True)
class Rejects:
    """Rows refused at some stage of one chunk.

    ``frame`` has the columns of :data:`REJECT_TYPES`: the row's identity, ``stage`` (a node id of the
    graph, "decode", or a sink id), ``code`` (short, stable, e.g. "json", "range") and ``message``
    (for a person; without the row's content).
    """

    frame: pl.DataFrame = field(default_factory=lambda: _NO_REJECTS)

    def __len__(self) -> int:
        return self.frame.height

    @classmethod
    def of(cls, rows: pl.DataFrame, stage: str, code: str | pl.Expr, message: str | pl.Expr) -> Rejects:
        """Rejects for all *rows* (any frame with ``_offset`` and ``_sub``).

        *code* and *message* are texts, or expressions over the frame.
        """
        return cls(
            rows.select(
                pl.col(OFFSET),
                pl.col(SUB),
                pl.lit(stage).alias("stage"),
                (pl.lit(code) if isinstance(code, str) else code).cast(pl.String).alias("code"),
                (pl.lit(message) if isinstance(message, str) else message).cast(pl.String).alias("message"),
            )
        )

    @classmethod
    def join(cls, parts: Sequence[Rejects]) -> Rejects:
        """All *parts* in their order."""
        full = [p.frame for p in parts if p.frame.height]
        return cls(pl.concat(full)) if full else cls()


class Chunk(ABC):
    """Raw records of one partition, in order, covering ``[first, end)`` without a hole.

    Transports and readers subclass it; everything is computed on demand and a chunk is immutable
    from outside. ``nbytes`` is what it costs in memory, for back-pressure. ``rejects`` are records
    that the reader itself could not cut (a ragged CSV row). ``frame`` is set by columnar sources
    (row *i* of it is the record at ``offsets()[i]``), otherwise the records are bytes. ``bookmark`` says
    how a bounded source goes on behind it (``contracts.Split.bookmark``).
    """

    __slots__ = ("bookmark", "end", "first", "frame", "nbytes", "rejects", "source")

    def __init__(
        self,
        source: PartitionId,
        first: int,
        end: int,
        *,
        nbytes: int,
        frame: pl.DataFrame | None = None,
        rejects: Rejects | None = None,
    ) -> None:
        self.source, self.first, self.end, self.nbytes = source, first, end, nbytes
        self.frame, self.rejects = frame, rejects or Rejects()
        self.bookmark = b""

    @property
    def covered(self) -> Range:
        return Range(self.first, self.end)

    @abstractmethod
    def __len__(self) -> int:
        """Number of records, readable ones only."""

    @abstractmethod
    def offsets(self) -> Int64s:
        """Position of each record, ascending, shape (len,)."""

    def values(self) -> list[bytes | None]:
        """The records' bytes; None is a tombstone. TypeError for a chunk whose records are in its frame."""
        raise TypeError(f"{type(self).__name__}: the records of this chunk are in its frame")

    def keys(self) -> list[bytes | None]:
        """The records' keys; all None where the source has none."""
        return [None] * len(self)

    def timestamps(self) -> Int64s | None:
        """Milliseconds since the epoch of each record, shape (len,), or None where the source has none."""
        return None

    def headers(self, offset: int) -> tuple[tuple[str, bytes], ...]:
        """The headers of the record at *offset*."""
        return ()

    def index(self, offsets: Int64s) -> npt.NDArray[np.intp]:
        """Places of *offsets* (each of which must be in the chunk) in the chunk's order."""
        own = self.offsets()
        if len(own) and own[-1] - own[0] == len(own) - 1:  # dense: the usual case on Kafka
            return np.asarray(offsets - own[0], np.intp)
        return np.asarray(np.searchsorted(own, offsets), np.intp)

    def original(self, offset: int) -> Original:
        """The record at *offset* as it came, for a dead letter."""
        at = int(self.index(np.array([offset], np.int64))[0])
        if self.frame is None:
            return Original(self.values()[at], "bytes")
        return Original(arrow_bytes(self.frame[at]), "arrow")


class RecordChunk(Chunk):
    """A chunk of records that are already in memory, e.g. of the embedded log or of a test."""

    __slots__ = ("_headers", "_keys", "_offsets", "_timestamps", "_values")

    def __init__(
        self,
        source: PartitionId,
        offsets: Sequence[int] | Int64s,
        values: Sequence[bytes | None],
        *,
        first: int | None = None,
        end: int | None = None,
        keys: Sequence[bytes | None] | None = None,
        timestamps: Int64s | None = None,
        headers: Sequence[tuple[tuple[str, bytes], ...]] | None = None,
    ) -> None:
        self._offsets = np.asarray(offsets, np.int64)
        self._values, self._keys = list(values), list(keys) if keys is not None else None
        self._timestamps, self._headers = timestamps, headers
        count = len(self._offsets)
        first = first if first is not None else (int(self._offsets[0]) if count else 0)
        end = end if end is not None else (int(self._offsets[-1]) + 1 if count else first)
        super().__init__(source, first, end, nbytes=sum(len(v or b"") + 60 for v in self._values))

    def __len__(self) -> int:
        return len(self._values)

    def offsets(self) -> Int64s:
        return self._offsets

    def values(self) -> list[bytes | None]:
        return self._values

    def keys(self) -> list[bytes | None]:
        return self._keys if self._keys is not None else super().keys()

    def timestamps(self) -> Int64s | None:
        return self._timestamps

    def headers(self, offset: int) -> tuple[tuple[str, bytes], ...]:
        if self._headers is None:
            return ()
        return self._headers[int(self.index(np.array([offset], np.int64))[0])]


class FrameChunk(Chunk):
    """A chunk of a columnar source: *frame* holds the records, row *i* at position ``offsets[i]``."""

    __slots__ = ("_offsets",)

    def __init__(
        self,
        source: PartitionId,
        offsets: Int64s,
        frame: pl.DataFrame,
        *,
        first: int,
        end: int,
        rejects: Rejects | None = None,
        nbytes: int | None = None,
    ) -> None:
        self._offsets = offsets
        size = int(frame.estimated_size()) if nbytes is None else nbytes
        super().__init__(source, first, end, nbytes=size, frame=frame, rejects=rejects)

    def __len__(self) -> int:
        return len(self._offsets)

    def offsets(self) -> Int64s:
        return self._offsets


def nothing_at(source: PartitionId, position: int) -> FrameChunk:
    """A chunk without records at *position*."""
    return FrameChunk(source, np.empty(0, np.int64), pl.DataFrame(), first=position, end=position)


class Share(NamedTuple):
    """Rows ``[start, end)`` of a frame that several batches have their rows in."""

    frame: pl.DataFrame
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in columns, and the source positions that they cover.

    ``frame`` has the user's columns and, anywhere among them, :data:`HIDDEN`; rows are sorted by
    ``(_offset, _sub)``. ``covered`` says which positions this batch settles, including those whose
    rows were filtered out or rejected: an empty frame with a range is a normal batch. ``chunk``
    holds the raw records until the outcome of every row is known.

    A batch of the stateless part has one source; a window's or join's may cover several. ``share``: where
    its rows lie beside those of other batches.
    """

    frame: pl.DataFrame
    covered: Mapping[PartitionId, Range]
    chunk: Chunk
    share: Share | None = field(default=None, kw_only=True, repr=False, compare=False)

    @property
    def source(self) -> PartitionId:
        """The only source; ValueError when there are several."""
        (source,) = self.covered
        return source

    @property
    def range(self) -> Range:
        """The range of the only source; ValueError when there are several."""
        (covered,) = self.covered.values()
        return covered

    @property
    def rows(self) -> pl.DataFrame:
        """The user's columns only."""
        return user_columns(self.frame)

    def __len__(self) -> int:
        return self.frame.height

    def with_frame(self, frame: pl.DataFrame) -> Batch:
        """The same coverage with other rows."""
        return replace(self, frame=frame, share=None)

    def cut(self, start: int, end: int) -> Batch:
        """The part of a one-source batch in ``[start, end)``, e.g. what a sink does not have yet."""
        covered = self.range
        start, end = max(start, covered.start), max(start, min(end, covered.end))
        if (start, end) == covered:
            return self
        frame = self.frame.filter(pl.col(OFFSET).is_between(start, end, closed="left"))
        return replace(self, frame=frame, covered={self.source: Range(start, end)}, share=None)

    def keys(self) -> list[bytes | None]:
        """The record key of each row."""
        keys = self.chunk.keys()
        return [keys[i] for i in self.chunk.index(self.frame[OFFSET].to_numpy())]

    def timestamps(self) -> Int64s | None:
        """The record time of each row in milliseconds since the epoch, or None where the source has none."""
        stamps = self.chunk.timestamps()
        return None if stamps is None else stamps[self.chunk.index(self.frame[OFFSET].to_numpy())]


@dataclass(frozen=True, slots=True)
class TimedBatch(Batch):
    """Rows for a window's log: none of them late, with the columns that the window needs and ``_offset``.

    ``watermark`` (microseconds since 1970) holds behind the batch. ``idle``: the partition has been read
    to its end for a while. A batch that covers nothing says only these two. Where the watermark says that
    there is nothing more, ``newest`` is the one that held before that; None if it has been told.
    """

    watermark: int
    idle: bool = False
    newest: int | None = None


def rows_of(batches: Sequence[Batch]) -> pl.DataFrame:
    """The rows of *batches* (one or more) in their order, in one frame."""
    shares = [batch.share for batch in batches if batch.share is not None]
    follow = all(a.frame is b.frame and a.end == b.start for a, b in pairwise(shares))
    if len(shares) == len(batches) and follow:
        return shares[0].frame.slice(shares[0].start, shares[-1].end - shares[0].start)
    return batches[0].frame if len(batches) == 1 else pl.concat([b.frame for b in batches], rechunk=True)


def user_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """*frame* without the hidden columns."""
    own = frame.clone()  # shares the columns; polars' own drop is a query, which costs more than few rows
    for name in HIDDEN:
        own.drop_in_place(name)
    return own


def hide(frame: pl.DataFrame, offsets: Int64s) -> pl.DataFrame:
    """*frame* with the hidden columns for one row a record, at *offsets*."""
    return frame.with_columns(
        pl.Series(OFFSET, offsets, pl.Int64),
        pl.lit(0, pl.UInt32).alias(SUB),
        pl.lit(OP_INSERT, pl.UInt8).alias(OP),
    )


def arrow_bytes(frame: pl.DataFrame) -> bytes:
    """*frame* as an Arrow IPC stream."""
    out = io.BytesIO()
    frame.write_ipc_stream(out)
    return out.getvalue()
