"""From a chunk of a bounded source to the records of a stream's topic: nothing dropped, in order.

A record whose rows are all good is written anew from its typed columns, one record a row. A record of
which some row is refused goes in whole as it came, so that the workers refuse it for the same reason
and make the dead letter. Each carries its position in :data:`AT`; the constant :data:`REPLAY` says of
which replay and split it is, and where the chunk began, since that is where reading can go on, with the
bookmark that the source needs for that (``contracts.Split.bookmark``).
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from streamcore.asking import prepared
from streamcore.batch import OFFSET, SUB, Chunk
from streamcore.contracts import Records
from streamcore.formats import decoder_for
from streamcore.graph import Source
from streamcore.sinks.topic_records import record_keys
from streamcore.transport.partitioning import indices, partition_of

REPLAY, AT = "sc-replay", "sc-at"
_AT = np.dtype([("offset", ">i8"), ("sub", ">u4")])
_AT_STRUCT = struct.Struct(">qI")


class At(NamedTuple):
    """A row's place in its split; compares as they were read."""

    position: int
    sub: int


class Label(NamedTuple):
    """What :data:`REPLAY` says."""

    replay: str
    split: int
    first: int
    bookmark: bytes = b""

    def pack(self) -> bytes:
        words = [self.replay, str(self.split), str(self.first)]
        if self.bookmark:
            words.append(base64.b64encode(self.bookmark).decode())
        return " ".join(words).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Label | None:
        """None when it is not of our making."""
        replay, split, first, bookmark, *_ = [*data.decode("utf-8", "replace").split(" "), "", "", ""]
        if not (split.isdigit() and first.isdigit()):
            return None
        return cls(replay, int(split), int(first), base64.b64decode(bookmark))


def unpack_at(data: bytes) -> At:
    """The place that :data:`AT` holds."""
    return At(*_AT_STRUCT.unpack(data))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows ready for a topic, in the order of their places; all columns of the same length.

    ``places``: ``_offset`` and ``_sub`` of each row; ``at``: the same, packed. ``keys`` has nulls where
    the stream has no key or the row is refused. ``refused``: the rejects (``batch.REJECT_TYPES``), which
    the workers will find again. ``bookmark``: the chunk's.
    """

    first: int
    end: int
    nbytes: int
    bookmark: bytes
    places: pl.DataFrame
    at: pa.BinaryArray
    keys: pa.BinaryArray
    values: pa.BinaryArray
    refused: pl.DataFrame

    def __len__(self) -> int:
        return self.places.height

    def partitions(self, count: int) -> npt.NDArray[np.int32]:
        """Each row's partition: by its key as Kafka's clients do, without one by its place.

        It depends on the row alone, so a replay that goes on finds each row where it was.
        """
        chosen = partition_of(self.keys, count, -1)
        keyless = chosen < 0
        if keyless.any():
            chosen[keyless] = partition_of(self.at, count, 0)[keyless]
        return chosen

    def records(
        self, keep: npt.NDArray[np.intp], partitions: npt.NDArray[np.int32], label: Label, now: int
    ) -> Records:
        """The rows at places *keep*, written at *now* (milliseconds): old times would be deleted by age."""
        at = indices(keep.astype(np.int64))
        return Records(
            values=self.values.take(at),
            timestamps=np.full(len(keep), now, np.int64),
            keys=self.keys.take(at),
            partitions=partitions[keep],
            headers=((REPLAY, label.pack()), (AT, self.at.take(at))),
        )


class RowMaker:
    """Makes :class:`Rows` of the chunks of one stream, after :meth:`start`; pure, for any thread."""

    def __init__(self, part: Source) -> None:
        self._part, self._format = part, part.format
        self._decoder = decoder_for(part.format, part.schema)
        # What the workers' decoder reads may be called otherwise than the columns.
        names = part.schema.judge.names
        self._inputs = {column: names[column][0] for column in part.schema.columns}

    async def start(self, topic: str) -> None:
        """Make ready to write to *topic*; again does no harm. Raises as ``AskingFormat.prepared``."""
        columns = self._part.schema.columns
        inputs = pl.Schema({name: columns[column] for column, name in self._inputs.items()})
        self._format = await prepared(self._part.format, topic, inputs)

    def make(self, chunk: Chunk) -> Rows:
        """The rows of *chunk*, the refused ones too."""
        decoded = self._decoder.decode(chunk)
        refused = decoded.rejects.frame
        good = decoded.frame
        if refused.height:
            good = good.filter(~pl.col(OFFSET).is_in(refused[OFFSET].unique().implode()))
        places = good.select(OFFSET, SUB)
        values = self._format.encode(
            good.select(pl.col(column).alias(name) for column, name in self._inputs.items())
        )
        key = self._part.key
        keys = record_keys(good, key) if key else pa.nulls(good.height, pa.binary())
        if refused.height:
            bad = refused.select(OFFSET, pl.lit(0, pl.UInt32).alias(SUB)).unique()
            raw = pa.array([self._raw(chunk, offset) for offset in bad[OFFSET].to_list()], pa.binary())
            places = pl.concat([places, bad])
            order = places.select(pl.arg_sort_by(OFFSET, SUB)).to_series()
            places, at = places[order], indices(order.to_numpy().astype(np.int64))
            values = pa.concat_arrays([values, raw]).take(at)
            keys = pa.concat_arrays([keys, pa.nulls(len(raw), pa.binary())]).take(at)
        return Rows(
            chunk.first,
            chunk.end,
            chunk.nbytes,
            chunk.bookmark,
            places,
            _packed(places),
            keys,
            values,
            refused,
        )

    def _raw(self, chunk: Chunk, offset: int) -> bytes | None:
        """A refused record as a message: a table's row in the stream's own format, others as their bytes."""
        own = chunk.offsets()
        at = int(np.searchsorted(own, offset))
        if chunk.frame is not None and at < len(own) and own[at] == offset:
            try:
                value: bytes | None = self._part.format.encode(chunk.frame[at])[0].as_py()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
                return chunk.original(offset).data  # a type that the format can't write: also refused
            return value
        return chunk.original(offset).data


def _packed(places: pl.DataFrame) -> pa.BinaryArray:
    packed = np.empty(places.height, _AT)
    packed["offset"], packed["sub"] = places[OFFSET].to_numpy(), places[SUB].to_numpy()
    starts = np.arange(places.height + 1, dtype=np.int32) * _AT.itemsize
    return pa.Array.from_buffers(
        pa.binary(), places.height, [None, pa.py_buffer(starts), pa.py_buffer(packed)]
    )
