"""Rows to commands of Redis, in columns: each row's words with their lengths, joined for a whole frame.

How they are packed is in :class:`streamcore.systems.redis_writing.Commands`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

_NOTHING, _NULL = pa.scalar(b"", pa.large_binary()), pa.scalar(None, pa.large_binary())
Word = bytes | pl.Series
"""The same in each row, or one of each row, none of them null."""


class Pair(NamedTuple):
    """A field and its values, as text or bytes; null where the row has none."""

    name: bytes
    values: pl.Series


def command(rows: int, words: Sequence[Word], pairs: Sequence[Pair] = ()) -> pa.LargeBinaryArray:
    """One command a row: *words*, and those of *pairs* that the row has."""
    count = np.full(rows, len(words), np.int64)
    for pair in pairs:
        count += 2 * pair.values.is_not_null().to_numpy()
    parts = [_fixed(count.astype(">u2"))]
    for word in words:
        parts += [_constant(word)] if isinstance(word, bytes) else _lengths_and_values(word)
    for name, values in pairs:
        whole = [_constant(name), *_lengths_and_values(values)]
        # One null part makes the pair null, which leaves it out of the command.
        parts += [pc.binary_join_element_wise(*whole, _NOTHING)] if values.null_count() else whole
    return joined(parts)


def removal(words: Sequence[Word], pairs: Sequence[Pair]) -> pa.LargeBinaryArray | None:
    """A command a row: *words* and the names of the fields that it lacks; null where it lacks none."""
    lacking = [(_constant(pair.name), pair.values.is_null()) for pair in pairs if pair.values.null_count()]
    if not lacking:
        return None
    count = np.zeros(len(lacking[0][1]), np.int64)
    for _, gone in lacking:
        count += gone.to_numpy()
    parts = [_fixed((count + len(words)).astype(">u2"))]
    for word in words:
        parts += [_constant(word)] if isinstance(word, bytes) else _lengths_and_values(word)
    for name, gone in lacking:
        parts.append(pc.if_else(_mask(gone.to_numpy()), name, _NULL))
    return pc.if_else(_mask(np.greater(count, 0)), joined(parts), _NULL)


def packed_words(values: pl.Series) -> pa.LargeBinaryArray:
    """Each of *values* behind its length."""
    return joined(_lengths_and_values(values))


def chosen(
    first: npt.NDArray[np.bool_], one: pa.LargeBinaryArray, other: pa.LargeBinaryArray
) -> pa.LargeBinaryArray:
    """*one* where *first* says so, else *other*."""
    return pc.if_else(_mask(first), one, other)


def joined(parts: Sequence[pa.LargeBinaryArray | pa.LargeBinaryScalar]) -> pa.LargeBinaryArray:
    """Row by row; nulls are nothing."""
    return pc.binary_join_element_wise(*parts, _NOTHING, null_handling="replace", null_replacement=b"")


def bytes_of(commands: pa.LargeBinaryArray) -> memoryview:
    """All *commands* in one piece, without a copy."""
    ends = offsets_of(commands)
    return memoryview(commands.buffers()[2] or b"")[int(ends[0]) : int(ends[-1])]


def offsets_of(commands: pa.LargeBinaryArray) -> npt.NDArray[np.int64]:
    """Where each of *commands* begins, and where the last one ends."""
    buffer = commands.buffers()[1]
    if buffer is None:
        return np.zeros(1, np.int64)
    return np.frombuffer(buffer, np.int64)[commands.offset : commands.offset + len(commands) + 1]


def _constant(word: bytes) -> pa.LargeBinaryScalar:
    return pa.scalar(struct.pack(">I", len(word)) + word, pa.large_binary())


def _lengths_and_values(values: pl.Series) -> list[pa.LargeBinaryArray]:
    """The lengths, in four bytes, and the values."""
    sizes = values.bin.size() if values.dtype == pl.Binary else values.str.len_bytes()
    lengths = sizes.fill_null(0).to_numpy().astype(">u4")
    arrow = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    return [_fixed(lengths), arrow.cast(pa.large_binary())]


def _fixed(numbers: npt.NDArray[np.generic]) -> pa.LargeBinaryArray:
    """The bytes of each of *numbers*."""
    offsets = np.arange(len(numbers) + 1, dtype=np.int64) * numbers.dtype.itemsize
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(numbers.tobytes())]
    return pa.Array.from_buffers(pa.large_binary(), len(numbers), buffers)


def _mask(values: npt.NDArray[np.bool_]) -> pa.BooleanArray:
    return pa.array(values, pa.bool_())
