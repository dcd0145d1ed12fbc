"""Avro records many at a time: as the one block of an object container file, which polars reads and writes.

Source: https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from polars.exceptions import PanicException, PolarsError

from streamcore.batch import Int64s
from streamcore.errors import Permanent
from streamcore.formats.avro_schema import Part, WriterSchema
from streamcore.formats.avro_sizes import decimal_sizes, sizes

_MAGIC, _SYNC = b"Obj\x01", bytes(16)


def read_block(schema: WriterSchema, bodies: Sequence[bytes]) -> pl.DataFrame | None:
    """The records *bodies* in columns, as polars has them; None unless each of them is right.

    What it stumbles over is not told apart. A panic of polars prints a line on standard error.
    """
    frame = read_records(schema, b"".join(bodies), len(bodies))
    if frame is None:
        return None
    lengths = np.fromiter(map(len, bodies), np.int64, len(bodies))
    return frame if (record_sizes(schema.record, frame) == lengths).all() else None


def read_records(schema: WriterSchema, data: bytes, count: int) -> pl.DataFrame | None:
    """*count* records that are *data*, in columns; None when polars refuses them. Where each ended is not
    proved: see :func:`record_sizes`."""
    block = _number(count) + _bytes(data) + _SYNC if count else b""
    try:
        frame = pl.read_avro(io.BytesIO(_header(schema.record) + block))
    except (PolarsError, PanicException, OSError):
        return None
    return frame if frame.height == count else None


def written(record: Part, frame: pl.DataFrame, prefix: bytes) -> pa.BinaryArray:
    """One value a row of *frame*, whose columns polars writes as *record*: *prefix* and the row's record."""
    file = io.BytesIO()
    frame.write_avro(file)
    records = _records_of(memoryview(file.getvalue()))
    lengths = record_sizes(record, frame)
    if len(records) != lengths.sum():
        raise Permanent("rows of another size than expected came of Avro", got=len(records))
    ends = np.cumsum(lengths + len(prefix))
    values = np.empty(int(ends[-1]), np.uint8)
    heads = np.zeros(len(values), np.bool_)
    starts = ends - lengths - len(prefix)
    for place, byte in enumerate(prefix):
        values[starts + place] = byte
        heads[starts + place] = True
    values[~heads] = np.frombuffer(records, np.uint8)
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.Array.from_buffers(
        pa.binary(), frame.height, [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    )


def decimal_bytes(values: pl.Series) -> pl.Series:
    """The unscaled value of each of *values*, decimals or whole numbers, in its smallest big-endian two's
    complement."""
    decimals = values.cast(pl.Decimal(38, 0)) if values.dtype.is_integer() else values
    lengths = decimal_sizes(decimals)
    arrow = decimals.rechunk().to_arrow()
    little = np.frombuffer(arrow.buffers()[1], np.uint8)[16 * arrow.offset :][: 16 * len(arrow)]
    both = little.reshape(-1, 16)[:, ::-1]
    kept = np.arange(16) >= 16 - lengths[:, None]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(both[kept])]
    made = pl.Series(values.name, pa.Array.from_buffers(pa.large_binary(), len(values), buffers))
    return made.to_frame().select(pl.when(values.is_not_null()).then(pl.col(values.name))).to_series()


def record_sizes(record: Part, frame: pl.DataFrame) -> Int64s:
    """Bytes of the record of each row of *frame*, whose columns are the fields of *record* in their order."""
    fields = zip(record.parts, frame.iter_columns(), strict=True)
    return sum((sizes(part, values) for part, values in fields), np.zeros(frame.height, np.int64))


def _header(record: Part) -> bytes:
    # polars does not know a record by its name, so each is written out, although Avro wants it named once.
    meta = {b"avro.schema": json.dumps(record.spelled).encode(), b"avro.codec": b"null"}
    entries = b"".join(_bytes(key) + _bytes(value) for key, value in meta.items())
    return _MAGIC + _number(len(meta)) + entries + _number(0) + _SYNC


def _records_of(file: memoryview) -> bytes:
    """The blocks of a container *file* without compression, one after the other."""
    at = len(_MAGIC)
    while (entries := _read(file, at))[0]:
        at = entries[1]
        for _ in range(2 * entries[0]):
            length, at = _read(file, at)
            at += length
    at, blocks = entries[1] + len(_SYNC), []
    while at < len(file):
        size, at = _read(file, _read(file, at)[1])
        blocks.append(file[at : at + size])
        at += size + len(_SYNC)
    return b"".join(blocks)


def _read(file: memoryview, at: int) -> tuple[int, int]:
    """The number at *at*, and where it ends."""
    shift = zigzag = 0
    while file[at] > 0x7F:
        zigzag |= (file[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    zigzag |= file[at] << shift
    return (zigzag >> 1) ^ -(zigzag & 1), at + 1


def _number(number: int) -> bytes:
    zigzag, made = number << 1, bytearray()  # none is negative here
    while zigzag > 0x7F:
        made.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    made.append(zigzag)
    return bytes(made)


def _bytes(value: bytes) -> bytes:
    return _number(len(value)) + value
