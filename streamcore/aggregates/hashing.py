"""A hash of values that is the same in any process, version and machine, for what is kept in state.

MurmurHash64A (Austin Appleby, 2008, https://github.com/aappleby/smhasher), over whole columns. polars' own
hash may change with its version.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Hashes: TypeAlias = npt.NDArray[np.uint64]

_M, _R = np.uint64(0xC6A4A7935BD1E995), np.uint64(47)
_WORD = 8
_LONGEST = 1_024
"""Longer values, in bytes, are rare: a digest takes their place, one by one."""


def hashable(dtype: pl.DataType) -> bool:
    """Whether :func:`hash64` takes values of *dtype*: all but nested ones."""
    return not dtype.is_nested() and not isinstance(dtype, (pl.Object, pl.Null))


def hash64(values: pl.Series) -> pl.Series:
    """The hash of each value, UInt64, nulls kept; equal values have equal ones, and so have any NaN."""
    hashes = _of_bytes(values) if _as_text(values.dtype) else murmur64(_words(values))
    return with_nulls(pl.Series(values.name, hashes), values)


def with_nulls(made: pl.Series, values: pl.Series) -> pl.Series:
    """*made*, null where *values* are."""
    nulled: pl.Series = made.zip_with(values.is_not_null(), pl.Series([None], dtype=made.dtype))
    return nulled


def _as_text(dtype: pl.DataType) -> bool:
    wide = isinstance(dtype, pl.Decimal) or dtype in (pl.Int128, pl.UInt128)
    return wide or not (dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean)


def _words(values: pl.Series) -> Hashes:
    """Numbers and times as 64 bits each; 0 for nulls."""
    words: Hashes
    if values.dtype.is_float():
        plain = values.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0  # -0.0 + 0.0 is 0.0
        words = plain.view(np.uint64).copy()
        words[np.isnan(plain)] = 0x7FF8_0000_0000_0000
        return words
    physical = values.to_physical().fill_null(0)
    wide = physical if physical.dtype == pl.UInt64 else physical.cast(pl.Int64)
    words = np.ascontiguousarray(wide.to_numpy()).view(np.uint64)
    return words


def murmur64(words: Hashes, seed: int = 0) -> Hashes:
    """MurmurHash64A of each word of 8 bytes."""
    with np.errstate(over="ignore"):
        return _finished(_mixed(np.full(len(words), np.uint64(seed) ^ np.uint64(_WORD) * _M), words))


def murmur64_of_bytes(values: pa.LargeBinaryArray, seed: int = 0) -> Hashes:
    """MurmurHash64A of each value; nulls as empty."""
    ends = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    sizes = np.diff(ends)
    order = np.argsort(-sizes, kind="stable")  # those that have an n-th word are then the first ones
    starts, sizes = ends[:-1][order], sizes[order]
    data = np.frombuffer(values.buffers()[2] or b"", np.uint8)
    padded = np.concatenate([data[: ends[-1]], np.zeros(_WORD, np.uint8)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WORD)
    words = sizes // _WORD
    with np.errstate(over="ignore"):
        hashes = np.uint64(seed) ^ sizes.astype(np.uint64) * _M
        for word in range(int(words[0]) if len(words) else 0):
            count = int(np.searchsorted(-words, -word, "left"))
            taken = windows[starts[:count] + word * _WORD].view(np.uint64).ravel()
            hashes[:count] = _mixed(hashes[:count], taken)
        rest = np.flatnonzero(sizes % _WORD)
        tails = windows[starts[rest] + words[rest] * _WORD].view(np.uint64).ravel()
        used = (sizes[rest] % _WORD * 8).astype(np.uint64)
        hashes[rest] = (hashes[rest] ^ (tails & ((np.uint64(1) << used) - np.uint64(1)))) * _M
        finished = _finished(hashes)
    out = np.empty_like(finished)
    out[order] = finished
    return out


def _of_bytes(values: pl.Series) -> Hashes:
    texts = values if values.dtype == pl.Binary else values.cast(pl.String).cast(pl.Binary)
    long = (texts.bin.size() > _LONGEST).fill_null(False)
    if long.any():
        digests = [hashlib.blake2b(value).digest() for value in texts.filter(long)]
        texts = texts.scatter(long.arg_true(), digests)
    return murmur64_of_bytes(texts.to_arrow().cast(pa.large_binary()))


def _mixed(hashes: Hashes, words: Hashes) -> Hashes:
    words = words * _M
    words ^= words >> _R
    words *= _M
    mixed: Hashes = (hashes ^ words) * _M
    return mixed


def _finished(hashes: Hashes) -> Hashes:
    hashes = hashes ^ (hashes >> _R)
    hashes *= _M
    hashes ^= hashes >> _R
    return hashes
