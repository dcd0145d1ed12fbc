"""Records by the partitions of a topic: chosen by their keys as Kafka's clients do, and sorted to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streamcore.batch import Int64s
from streamcore.contracts import Records

Bytes: TypeAlias = npt.NDArray[np.uint8]
_FEW_KEYS, _KEPT_BYTES, _MOST_KEPT = 256, 64, 1 << 14
"""Of so many keys of so many bytes each the hashes are kept, this many in all: keys come again."""
_kept: dict[bytes | None, int] = {}  # a null has the hash of no bytes


def indices(order: Int64s) -> pa.Int64Array:
    """*order* as an Arrow array, without pa.array(), whose first call imports pandas (a second)."""
    return pa.Array.from_buffers(pa.int64(), len(order), [None, pa.py_buffer(order)])


def offsets_of(column: pa.BinaryArray) -> npt.NDArray[np.int32]:
    """Where each value begins in the buffer of *column*, and the last one ends, shape (values + 1,)."""
    whole = np.frombuffer(column.buffers()[1], np.int32)
    return whole[column.offset : column.offset + len(column) + 1]


def murmur2(keys: pa.BinaryArray) -> npt.NDArray[np.uint32]:
    """Kafka's hash of each key (nulls as empty); equal to ``org.apache.kafka.common.utils.Utils.murmur2``."""
    rows = len(keys)
    if not rows:
        return np.empty(0, np.uint32)
    ends = offsets_of(keys)
    data = np.frombuffer(keys.buffers()[2] or b"", np.uint8)
    starts, sizes = ends[:-1], np.diff(ends)
    out = np.empty(rows, np.uint32)
    with np.errstate(over="ignore"):
        for size in np.unique(sizes):
            places = np.flatnonzero(sizes == size)
            out[places] = _murmur2_of_size(data, starts[places], int(size))
    return out


def _murmur2_of_size(data: Bytes, starts: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.uint32]:
    m = np.uint32(0x5BD1E995)
    shifts = [np.uint32(s) for s in (0, 8, 16, 24)]
    h = np.full(len(starts), np.uint32(0x9747B28C) ^ np.uint32(size), np.uint32)
    for word in range(0, size - 3, 4):
        k = data[starts + word].astype(np.uint32)
        for i in (1, 2, 3):
            k |= data[starts + word + i].astype(np.uint32) << shifts[i]
        k *= m
        k ^= k >> np.uint32(24)
        k *= m
        h *= m
        h ^= k
    left = size % 4
    for i in range(left - 1, -1, -1):
        h ^= data[starts + (size - left + i)].astype(np.uint32) << shifts[i]
    if left:
        h *= m
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return h


def partition_of(keys: pa.BinaryArray, partitions: int, keyless: int) -> npt.NDArray[np.int32]:
    """The partition of each key as Kafka's clients choose it; *keyless* for null keys."""
    chosen: npt.NDArray[np.int32] = (_hashes(keys) % partitions).astype(np.int32)
    if keys.null_count:
        chosen[pc.is_null(keys).to_numpy(zero_copy_only=False)] = keyless
    return chosen


def _hashes(keys: pa.BinaryArray) -> npt.NDArray[np.uint32]:
    """The lower 31 bits of the hash of each key; those of few keys are looked up where all are kept."""
    if len(keys) > _FEW_KEYS or np.ptp(offsets_of(keys)) > _KEPT_BYTES * len(keys):
        return _hashed(keys)
    each: list[bytes | None] = keys.to_pylist()
    known = [_kept.get(key) for key in each]
    if None not in known:
        return np.array(known, np.uint32)
    hashed = _hashed(keys)
    if len(_kept) + len(each) > _MOST_KEPT:
        _kept.clear()
    _kept.update(zip(each, hashed.tolist(), strict=True))
    return hashed


def _hashed(keys: pa.BinaryArray) -> npt.NDArray[np.uint32]:
    lower: npt.NDArray[np.uint32] = murmur2(keys) & np.uint32(0x7FFFFFFF)
    return lower


def by_partition(records: Records, partitions: int, keyless: int) -> Iterator[tuple[int, Records]]:
    """*records* sorted to their partitions, in order; *keyless* takes those without key or partition."""
    ordered, pieces = in_order(records, partitions, keyless)
    for partition, start, end in pieces:
        yield partition, part_of(ordered, start, end)


class Piece(NamedTuple):
    """Records ``[start, end)`` of those in order, all of one partition."""

    partition: int
    start: int
    end: int


def chosen_of(records: Records, partitions: int, keyless: int) -> npt.NDArray[np.int32] | None:
    """The partition of each record; None when all go to *keyless*."""
    if records.partitions is not None or records.keys is None:
        return records.partitions
    return partition_of(records.keys, partitions, keyless)


def in_order(records: Records, partitions: int, keyless: int) -> tuple[Records, list[Piece]]:
    """*records* sorted by partition, and where each partition's are."""
    chosen = chosen_of(records, partitions, keyless)
    if chosen is None or not len(records):
        return records, [Piece(keyless, 0, len(records))] if len(records) else []
    # One byte a record sorts by radix, ten times faster.
    order = np.argsort(chosen.astype(np.uint8) if partitions <= 256 else chosen, kind="stable")
    ends = np.cumsum(np.bincount(chosen, minlength=partitions)).tolist()
    pieces = map(Piece, range(partitions), [0, *ends[:-1]], ends)
    return _take(records, order), [piece for piece in pieces if piece.end > piece.start]


def _take(records: Records, order: Int64s) -> Records:
    at = indices(order)
    return replace(
        records,
        values=records.values.take(at),
        keys=None if records.keys is None else records.keys.take(at),
        timestamps=records.timestamps[order],
        partitions=None,
        headers=tuple((n, v if isinstance(v, bytes) else v.take(at)) for n, v in records.headers),
    )


def part_of(records: Records, start: int, end: int) -> Records:
    """Records ``[start, end)`` of *records*, without their partitions; all of them as they are."""
    if start == 0 and end == len(records):
        return records
    return replace(
        records,
        values=records.values[start:end],
        keys=None if records.keys is None else records.keys[start:end],
        timestamps=records.timestamps[start:end],
        partitions=None,
        headers=tuple((n, v if isinstance(v, bytes) else v[start:end]) for n, v in records.headers),
    )
