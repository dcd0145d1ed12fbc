"""How many bytes each row takes in Avro: where its record ends among others.

polars reads many records at once, and nothing says where one ends. That each of them was read from its own
bytes is proved by their sizes: the first record begins where it should, and each is as long as its message.
An encoder may write a value longer than it need be (numbers with leading zeros, arrays in pieces); such
records are in doubt, and go the way by rows.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from streamcore.batch import Int64s
from streamcore.formats.avro_schema import SIZES, VARINTS, Part

_VARINT_BITS = np.array([1 << 7 * bytes_ for bytes_ in range(1, 10)], np.uint64)
_DECIMAL_BYTES = 16
_NANOSECONDS = {"time-millis": 1_000_000, "time-micros": 1_000}
"""Of a unit of these; polars' times of day are in nanoseconds."""


def sizes(part: Part, values: pl.Series) -> Int64s:
    """Bytes of each of *values*, as polars reads or writes them for *part*; shape (rows,).

    For a null where *part* has none it is any number.
    """
    if part.kind in SIZES:
        return np.full(len(values), SIZES[part.kind], np.int64)
    if part.kind == "optional":
        there = values.is_not_null().to_numpy()
        return 1 + np.where(there, sizes(part.parts[0], values), 0)
    if part.kind == "record":
        fields = zip(part.parts, values.struct.unnest() if values.len() else [], strict=False)
        return sum((sizes(inner, series) for inner, series in fields), np.zeros(len(values), np.int64))
    if part.kind == "array":
        return _array(part, values)
    if isinstance(values.dtype, pl.Decimal) and part.kind == "bytes":
        return _with_length(decimal_sizes(values))
    if part.kind == "fixed":
        return np.full(len(values), part.size, np.int64)
    if part.kind == "enum":
        places = values.cast(pl.String).cast(pl.Enum(part.symbols)).to_physical()
        return varint_sizes(places.cast(pl.Int64).fill_null(0).to_numpy())
    if part.kind in VARINTS:
        numbers = values.to_physical().cast(pl.Int64).fill_null(0).to_numpy()
        return varint_sizes(
            numbers // _NANOSECONDS.get(part.logical, 1) if values.dtype == pl.Time else numbers
        )
    lengths = values.bin.size() if values.dtype == pl.Binary else values.str.len_bytes()
    return _with_length(lengths.cast(pl.Int64).fill_null(0).to_numpy())


def varint_sizes(numbers: Int64s) -> Int64s:
    """Bytes of each number as a variable-length zigzag integer."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    return 1 + _VARINT_BITS.searchsorted(zigzag, "right").astype(np.int64)


def _with_length(lengths: Int64s) -> Int64s:
    return lengths + varint_sizes(lengths)


def _array(part: Part, values: pl.Series) -> Int64s:
    """A count, the items and a 0 for the end; an empty one is the 0 alone."""
    counts = values.list.len().cast(pl.Int64).fill_null(0).to_numpy()
    # What has no items explodes to a null.
    items = values.filter(values.list.len() > 0).explode()
    ends = np.concatenate([[0], np.cumsum(sizes(part.parts[0], items))])
    last = np.cumsum(counts)
    return 1 + np.where(counts > 0, varint_sizes(counts) + ends[last] - ends[last - counts], 0)


def decimal_sizes(values: pl.Series) -> Int64s:
    """Bytes of the smallest two's complement of each unscaled value of decimals."""
    unscaled = values.to_physical().to_frame("v")
    enough = [
        pl.col("v").is_between(-(1 << 8 * bytes_ - 1), (1 << 8 * bytes_ - 1) - 1).not_()
        for bytes_ in range(1, _DECIMAL_BYTES)
    ]
    lengths: Int64s = (
        unscaled.select(1 + pl.sum_horizontal(enough)).to_series().cast(pl.Int64).fill_null(1).to_numpy()
    )
    return lengths
