"""Rows to records of a topic: values in a format, keys, times, and where each row came from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from streamcore.asking import prepared
from streamcore.batch import (
    OFFSET,
    OP,
    OP_DELETE,
    OP_UPDATE_BEFORE,
    SUB,
    Batch,
    Int64s,
    PartitionId,
    rows_of,
    user_columns,
)  # fmt: skip
from streamcore.contracts import Format, Records

POSITION_HEADER = "sc-position"
_FEW = 128
"""Up to so many keys cost less one by one than the casts of a column do."""
_SPELLED = frozenset({pl.Int64, pl.Int32, pl.UInt64, pl.UInt32, pl.String})
"""Types of which Python and polars write the same text."""
_GONE = np.array([OP_DELETE, OP_UPDATE_BEFORE], np.uint8)
_POSITION = np.dtype([("source", "S8"), ("offset", ">i8"), ("sub", ">u4")])


@dataclass
class RecordMaker:
    """Makes records of batches, as soon as :meth:`start` has made its format ready.

    ``keys``: the columns of the key; none: the source record's key. ``time``: the column of the record's
    time, or None: the source record's time, otherwise ``clock`` (seconds since the epoch).
    """

    format: Format
    keys: tuple[str, ...]
    time: str | None
    position_headers: bool
    clock: Callable[[], float]

    async def start(self, topic: str, columns: pl.Schema) -> None:
        """Make ready to write rows with *columns* to *topic*. Raises as ``AskingFormat.prepared``."""
        self.format = await prepared(self.format, topic, columns)

    def of(self, batches: Sequence[Batch]) -> Records | None:
        """The rows of *batches* as records, in their order; None when there are none."""
        batches = [batch for batch in batches if len(batch)]
        if not batches:
            return None
        frame = rows_of(batches)
        return Records(
            values=self._values(frame),
            timestamps=self._timestamps(frame, batches),
            keys=record_keys(frame, self.keys) if self.keys else _source_keys(batches),
            headers=((POSITION_HEADER, self._positions(frame, batches)),) if self.position_headers else (),
        )

    def _values(self, frame: pl.DataFrame) -> pa.BinaryArray:
        """The rows in the format; a row that leaves its table is a tombstone."""
        values = self.format.encode(user_columns(frame))
        changes = frame[OP].to_numpy()
        if not changes.any():  # inserts, as nearly always
            return values
        return pc.if_else(pl.Series(np.isin(changes, _GONE)).to_arrow(), None, values)

    def _positions(self, frame: pl.DataFrame, batches: Sequence[Batch]) -> pa.BinaryArray:
        names = np.array([source_name(batch.source) for batch in batches], "S8")
        return positions(frame, np.repeat(names, [len(batch) for batch in batches]))

    def _timestamps(self, frame: pl.DataFrame, batches: Sequence[Batch]) -> Int64s:
        now = int(self.clock() * 1000)
        if self.time is None:
            found = [(b.timestamps(), len(b)) for b in batches]
            return np.concatenate([np.full(n, now, np.int64) if t is None else t for t, n in found])
        # Kafka has no times before 1970, and refuses the batch for one that is far in the future.
        times = frame[self.time]
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
    if only.dtype in _SPELLED and frame.height <= _FEW:
        return pa.array([None if key is None else str(key).encode() for key in only.to_list()], pa.binary())
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
