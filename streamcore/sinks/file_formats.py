"""What the files of a file sink look like inside: Parquet, CSV, JSON lines; Excel is in excel_format.py.

A :class:`FileFormat` says which columns it can hold and writes a frame to an open file; it knows
nothing of folders, seals and offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol

import polars as pl

from streamcore.errors import BadConfig
from streamcore.schema.types import instance_of
from streamcore.sinks.column_checks import Checked

Compression = Literal["zstd", "snappy", "lz4", "gzip", "uncompressed"]


class FileFormat(Protocol):
    """How a sink's files are written: Parquet, CSV, JSON lines, or Excel."""

    @property
    def suffix(self) -> str:
        """With its dot, e.g. ``.parquet``."""
        ...

    def check(self, columns: pl.Schema) -> None:
        """BadConfig, naming the column, when one of *columns* can't be held."""
        ...

    def columns(self, columns: pl.Schema) -> Sequence[Checked]:
        """Those of *columns* with values that can't be held; such rows are refused."""
        ...

    def write(self, frame: pl.DataFrame, file: BinaryIO) -> None:
        """All of *frame*; errors of the file pass as they are."""
        ...


@dataclass(frozen=True, slots=True)
class ParquetFormat:
    """Every type but Object and structs without a field."""

    compression: Compression = "zstd"
    suffix: str = ".parquet"

    def check(self, columns: pl.Schema) -> None:
        refuse(columns, "Parquet", lambda dtype: dtype == pl.Object or dtype == pl.Struct([]))

    def columns(self, columns: pl.Schema) -> Sequence[Checked]:
        return ()

    def write(self, frame: pl.DataFrame, file: BinaryIO) -> None:
        # zstd 1 is a third cheaper than polars' own level and within 5 % of its size
        level = 1 if self.compression == "zstd" else None
        frame.write_parquet(file, compression=self.compression, compression_level=level, mkdir=False)


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """A header in each file; a null is nothing, an empty text is ``""``; times as ISO 8601."""

    separator: str = ","
    suffix: str = ".csv"

    def check(self, columns: pl.Schema) -> None:
        refuse(
            columns,
            "CSV",
            lambda dtype: dtype.is_nested() or isinstance(dtype, (pl.Binary, pl.Duration, pl.Object)),
        )

    def columns(self, columns: pl.Schema) -> Sequence[Checked]:
        return ()

    def write(self, frame: pl.DataFrame, file: BinaryIO) -> None:
        frame.write_csv(file, separator=self.separator)


@dataclass(frozen=True, slots=True)
class JsonLinesFormat:
    """One object a line; JSON has no NaN and no infinity, they become null; decimals are texts."""

    suffix: str = ".jsonl"

    def check(self, columns: pl.Schema) -> None:
        refuse(columns, "JSON", lambda dtype: isinstance(dtype, (pl.Binary, pl.Object)))

    def columns(self, columns: pl.Schema) -> Sequence[Checked]:
        return ()

    def write(self, frame: pl.DataFrame, file: BinaryIO) -> None:
        frame.write_ndjson(file)


def refuse(columns: pl.Schema, format_name: str, bad: Callable[[pl.DataType], bool]) -> None:
    """BadConfig for the first of *columns* that is *bad*, or has such a type inside of it."""
    for name, dtype in columns.items():
        if any(bad(inner) for inner in _with_inner(instance_of(dtype))):
            raise BadConfig(
                f"{format_name} can't hold the column {name!r}",
                got=str(dtype),
                fix=f"drop it, cast it, or use another sink: .drop({name!r})",
            )


def _with_inner(dtype: pl.DataType) -> Iterator[pl.DataType]:
    """*dtype* and all types inside of it."""
    yield dtype
    if isinstance(dtype, pl.Struct):
        inner = [field.dtype for field in dtype.fields]
    elif isinstance(dtype, (pl.List, pl.Array)):
        inner = [dtype.inner]
    else:
        inner = []
    for one in inner:
        yield from _with_inner(instance_of(one))
