"""``File``: a file of rows that is held in memory, and read again when it has changed.

It is looked at again at most every *refresh*, when a row asks for it. Replace it by renaming another file to
its name: one that is read while it is written may be broken, and the rows wait until it is whole.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import polars as pl

from streamcore.asking import Caching
from streamcore.durations import duration
from streamcore.errors import BadConfig, Transient
from streamcore.references.declared import key_of

_READ: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path),
    ".parquet": lambda path: pl.read_parquet(path),
    ".jsonl": lambda path: pl.read_ndjson(path),
    ".ndjson": lambda path: pl.read_ndjson(path),
}


@dataclass(frozen=True)
class File:
    """The rows of the file at *path* (CSV, Parquet, JSON lines), named by the columns *key*.

    Its columns and their types are those that it has when the topology is loaded; later ones must have them.
    """

    path: str | Path
    key: str | tuple[str, ...]
    refresh: str | dt.timedelta = "1m"
    name: str = ""
    types: pl.Schema = field(init=False)

    caching: ClassVar[Caching | None] = None

    def __post_init__(self) -> None:
        path = Path(self.path)
        if path.suffix not in _READ:
            raise BadConfig("a file of this kind is not looked up in", got=path.name, allowed=[*_READ])
        try:
            frame = _READ[path.suffix](path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise BadConfig(f"the reference can't be read: {type(error).__name__}", got=str(path)) from None
        object.__setattr__(self, "types", frame.schema)
        _ = self.keys  # says now what is wrong
        object.__setattr__(self, "name", self.name or f"file:{path.name}")
        duration(self.refresh)

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of *key*."""
        return key_of(self.key, self.types)

    def reader(self, clock: Callable[[], float]) -> FileReader:
        return FileReader(self, clock)


class FileReader:
    """The live part of :class:`File`."""

    def __init__(self, file: File, clock: Callable[[], float]) -> None:
        self._file, self._clock = file, clock
        self._path, self._key = Path(file.path), [*file.keys]
        self._every = duration(file.refresh).total_seconds()
        self._rows: pl.DataFrame | None = None
        self._looked, self._version = float("-inf"), (0, 0)
        self._one = asyncio.Lock()

    async def start(self) -> None:
        """Read it."""
        await self._fresh()

    async def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """The rows of *keys* by the file as it was at most *refresh* ago."""
        return (await self._fresh()).join(keys, on=self._key, how="semi")

    async def close(self) -> None:
        """Nothing is open."""

    async def _fresh(self) -> pl.DataFrame:
        async with self._one:
            now = self._clock()
            if self._rows is None or now - self._looked >= self._every:
                self._rows = await asyncio.to_thread(self._read)
                self._looked = now
            return self._rows

    def _read(self) -> pl.DataFrame:
        """The file's rows. Transient for one that is not there or not as it should be: it may be mended."""
        try:
            status = self._path.stat()
            version = status.st_mtime_ns, status.st_size
            if self._rows is not None and version == self._version:
                return self._rows
            rows = _READ[self._path.suffix](self._path)
            rows = rows.select(pl.col(name).cast(dtype) for name, dtype in self._file.types.items())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise Transient(
                f"the file can't be read: {type(error).__name__}", where=str(self._path)
            ) from None
        rows = rows.drop_nulls(self._key)
        if rows.select(pl.struct(*self._key).is_duplicated().any()).item():
            raise Transient(
                "the file has several rows of a key", where=str(self._path), got=", ".join(self._key)
            )
        self._version = version
        return rows
