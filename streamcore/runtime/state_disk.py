"""Runs of state that are too large for memory, in files that nobody else sees.

A file has no name from the moment that it is made, and is gone with the last reference to its rows: nothing
is left behind, not by kill -9 either, and nothing needs to be swept. It is read by mapping it, so that the
kernel holds what is looked at often, and lets go of it when memory is short. What is lost with the
process is made again of the log.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa
from polars.datatypes import DataTypeClass

from streamcore.errors import Permanent

_ALIGNED = 64
"""Bytes to whose multiples buffers are aligned: polars would copy others into memory."""
_LIBRARIES = 96 << 20
"""About how many pages of files a process has without any of state: those of its libraries."""
_MAPPED: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
"""All files of this process that still have rows in use."""


@dataclass(frozen=True)
class Disk:
    """Puts frames of runs that have more than half of *memory* bytes into files in *folder*.

    Frames with numbers of more than 38 digits stay in memory: Arrow has no type for them.

    Runs that are merged whole are each larger than the younger ones, so what stays in memory is about
    *memory* bytes, of each kind of pieces. Of the files about *pages* bytes at most are mapped: beyond that
    it lets go of all, and gets those that it needs again from the kernel's cache.
    """

    folder: Path
    memory: int
    pages: int = 512 << 20

    def shared(self, kinds: int) -> Disk:
        """See :class:`~streamcore.state.places.Place`."""
        return replace(self, memory=self.memory // kinds)

    def trim(self) -> None:
        """Let go of the pages of files if this process holds too many of them."""
        if _MAPPED and _resident() > self.pages + _LIBRARIES:
            for mapped in _MAPPED:
                mapped.madvise(mmap.MADV_DONTNEED)

    def put(self, frame: pl.DataFrame, size: int) -> pl.DataFrame:
        """See :class:`~streamcore.state.places.Place`. Permanent when the folder can't be written."""
        if 2 * size <= self.memory or not frame.height:
            return frame
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return _mapped(frame, self.folder)
        except (
            pl.exceptions.ComputeError,
            pl.exceptions.InvalidOperationError,
        ):  # numbers too long for Arrow
            return frame
        except OSError as error:
            raise Permanent(
                f"state that is larger than its memory can't be written to {self.folder}",
                got=f"{type(error).__name__}: {error.strerror or error}",
                fix="make room there, set state.dir elsewhere or raise state.memory_mb, and start again",
            ) from error


def _resident() -> int:
    """Bytes of this process's memory that are pages of files."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE


def _mapped(frame: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """The rows and columns of *frame*, from a file in *folder*."""
    stored = frame.select(
        pl.col(name).cast(_storable(dtype)) if _storable(dtype) != dtype else pl.col(name)
        for name, dtype in frame.schema.items()
    )
    arrays = [_one(column) for column in stored.to_arrow(compat_level=pl.CompatLevel.oldest()).columns]
    with tempfile.TemporaryFile(dir=folder) as file:
        places = [_written(buffer, file) for array in arrays for buffer in array.buffers()]
        file.flush()
        if not file.tell():
            return frame
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    _MAPPED.add(mapped)
    whole = pa.py_buffer(mapped)
    buffers = (None if place is None else whole.slice(*place) for place in places)
    columns = [_read(array, buffers) for array in arrays]
    table = pa.table(columns, names=frame.columns)
    read = pl.from_arrow(table, rechunk=False)
    assert isinstance(read, pl.DataFrame)
    return read.select(
        pl.col(name).to_physical() if dtype == pl.Int128 else pl.col(name).cast(dtype)
        for name, dtype in frame.schema.items()
    )


def _storable(dtype: pl.DataType | DataTypeClass) -> pl.DataType | DataTypeClass:
    """A type for the values of *dtype* that Arrow knows too."""
    if dtype in (pl.Int128, pl.UInt128):
        return pl.Decimal(38, 0)
    if isinstance(dtype, pl.List):
        return pl.List(_storable(dtype.inner))
    if isinstance(dtype, pl.Array):
        return pl.Array(_storable(dtype.inner), dtype.size)
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _storable(field.dtype) for field in dtype.fields})
    return dtype


def _one(column: pa.ChunkedArray) -> pa.Array:
    """*column* as one array whose buffers begin with its first value; texts as views, as polars has them."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if array.offset:
        array = pa.concat_arrays([array, array[:0]])
    views = {pa.large_string(): pa.string_view(), pa.large_binary(): pa.binary_view()}
    return array.cast(views.get(array.type, array.type))


def _written(buffer: pa.Buffer | None, file: BinaryIO) -> tuple[int, int] | None:
    """Where in *file* the bytes of *buffer* are now, and how many they are."""
    if buffer is None:
        return None
    if not buffer.size:
        return 0, 0
    start = -(-file.tell() // _ALIGNED) * _ALIGNED
    file.seek(start)
    file.write(buffer)
    return start, buffer.size


def _read(like: pa.Array, buffers: Iterator[pa.Buffer | None]) -> pa.Array:
    """An array as *like* is, of *buffers*, which are as many as its own."""
    children = _children(like)
    own = len(like.buffers()) - sum(len(child.buffers()) for child in children)
    mine = list(islice(buffers, own))
    made = [_read(child, buffers) for child in children]
    if isinstance(like, pa.DictionaryArray):
        indices = pa.Array.from_buffers(like.type.index_type, len(like), mine, like.null_count)
        return pa.DictionaryArray.from_arrays(indices, like.dictionary, ordered=like.type.ordered, safe=False)
    return pa.Array.from_buffers(like.type, len(like), mine, like.null_count, 0, made or None)


def _children(array: pa.Array) -> list[pa.Array]:
    if isinstance(array, pa.StructArray):
        return [array.field(number) for number in range(array.type.num_fields)]
    if isinstance(array, (pa.LargeListArray, pa.FixedSizeListArray, pa.ListArray)):
        return [array.values]
    return []
