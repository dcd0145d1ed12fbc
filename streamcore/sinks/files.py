"""Files in a folder or in S3, exactly once, optionally in partitioned folders.

``Parquet``, ``Csv``, ``JsonLines`` and ``Excel`` write ::

    out/late/origin=JFK/1f0c…-00000-00000000000000000000-000001.parquet
             └ hive folder    └ stream └ partition └ first position └ turn of the owner
    out/late/_seals/…         what was written, and the fence (see file_seals.py)

``s3://bucket/late?region=…`` instead of a path is a prefix of a bucket, with the options of
:mod:`streamcore.systems.s3_address`. Where files are is a :class:`Storage`; all else is the same.

Rows are held in memory, one range of positions a source partition, until the range has
``roll_rows`` rows or ``roll_bytes`` bytes, is ``roll_seconds`` old, or memory or a flush asks for
it. Then it is written, sealed and shown, all folders of the range under one seal. A crash at any
place leaves each row in exactly one visible file. Read the files by a pattern, e.g.
``polars.scan_parquet("out/late/**/*.parquet", hive_partitioning=True)``.

Values of ``partition_by`` columns become folder names, percent-encoded; null is
``__HIVE_DEFAULT_PARTITION__``. A row whose value makes no folder name is refused (code
``folder_name``).
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

import polars as pl

from streamcore.batch import HIDDEN, Batch, PartitionId
from streamcore.contracts import FlushReason, SinkAbilities, SinkContext
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.sinks.column_checks import ColumnChecks
from streamcore.sinks.excel_format import SHEET_ROWS, ExcelFormat
from streamcore.sinks.file_formats import Compression, CsvFormat, FileFormat, JsonLinesFormat, ParquetFormat
from streamcore.sinks.file_seals import SealChain
from streamcore.sinks.hive_folders import folder_name, unnamed
from streamcore.sinks.storage import Output, Storage
from streamcore.sinks.storages import storage_of

_FILE_NAME_BYTES = 80
"""No less than the longest name that :meth:`SealChain.output_name` makes."""
_FOLDER_TYPES = (pl.String, pl.Boolean, pl.Date, pl.Categorical, pl.Enum)
_LASTING = (FlushReason.END, FlushReason.REVOKE, FlushReason.PRESSURE)


@dataclass(frozen=True)
class _FileSink(ABC):
    """``path``: the folder, or ``s3://bucket/prefix?…``. ``partition_by``: columns that become hive folders.

    A file is full at ``roll_rows``, at ``roll_bytes`` (in memory) or after ``roll_seconds``.
    ``name``: the sink's stable name, otherwise made from the format and the path.
    """

    path: str = field(repr=False)
    partition_by: str | Sequence[str] | None = None
    _: KW_ONLY
    roll_rows: int = 5_000_000
    roll_bytes: int = 64 * 2**20
    roll_seconds: float = 60.0
    name: str = ""
    storage: Storage = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.path or "\0" in str(self.path):
            raise BadConfig("a file sink needs the path of a folder", got=self.path)
        for option in ("roll_rows", "roll_bytes", "roll_seconds"):
            if not getattr(self, option) > 0:
                raise BadConfig(f"{option} must be greater than 0", got=getattr(self, option))
        object.__setattr__(self, "path", os.fspath(self.path))
        object.__setattr__(self, "storage", storage_of(self.path))
        object.__setattr__(self, "name", self.name or f"{type(self).__name__.lower()}:{self.target}")

    @property
    def target(self) -> str:
        """Where the rows are, for people; without a URI's options."""
        return self.storage.shown

    @property
    def folders(self) -> tuple[str, ...]:
        """The columns of ``partition_by``."""
        by = self.partition_by
        return () if by is None else (by,) if isinstance(by, str) else tuple(by)

    @property
    @abstractmethod
    def format(self) -> FileFormat:
        """How a file is written."""

    @property
    def abilities(self) -> SinkAbilities:
        return SinkAbilities(append=True, transactional=True, stores_positions=True)

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for types that the format can't hold and columns that can't name folders."""
        for name in self.folders:
            if name not in columns:
                raise BadConfig(
                    f"partition_by: unknown column {name!r}",
                    allowed=columns.names(),
                    fix=did_you_mean(name, columns.names()),
                )
            dtype = columns[name]
            if not (dtype.is_integer() or dtype in _FOLDER_TYPES):
                raise BadConfig(
                    f"partition_by: {name!r} can't name folders",
                    got=str(dtype),
                    allowed=["text", "integer", "boolean", "date"],
                    fix="add a column that can, e.g. the date of a time",
                )
        rest = pl.Schema({name: dtype for name, dtype in columns.items() if name not in self.folders})
        if not rest:
            raise BadConfig("partition_by leaves no column for the files", got=self.folders)
        self.format.check(rest)

    def writer(self, context: SinkContext) -> FileWriter:
        return FileWriter(self, context)


@dataclass(frozen=True)
class Parquet(_FileSink):
    """Parquet files; ``compression`` as polars names it."""

    _: KW_ONLY
    compression: Compression = "zstd"

    @property
    def format(self) -> FileFormat:
        return ParquetFormat(self.compression)


@dataclass(frozen=True)
class Csv(_FileSink):
    """CSV files with a header each. A null is an empty field, an empty text is ``""``."""

    _: KW_ONLY
    separator: str = ","

    @property
    def format(self) -> FileFormat:
        return CsvFormat(self.separator)


@dataclass(frozen=True)
class JsonLines(_FileSink):
    """One JSON object a line. NaN and infinities become null, as JSON has neither."""

    @property
    def format(self) -> FileFormat:
        return JsonLinesFormat()


@dataclass(frozen=True)
class Excel(_FileSink):
    """Excel workbooks with a header each. What Excel can't hold, see excel_format.py, is refused."""

    _: KW_ONLY
    roll_rows: int = 200_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.roll_rows > SHEET_ROWS:
            raise BadConfig(
                "a sheet has no room for roll_rows", got=self.roll_rows, allowed=[f"1 to {SHEET_ROWS}"]
            )

    @property
    def format(self) -> FileFormat:
        return ExcelFormat()


@dataclass
class _Rows:
    """The rows of a range of positions that ends at ``end``."""

    end: int
    frames: list[pl.DataFrame] = field(default_factory=list)
    count: int = 0
    nbytes: int = 0


@dataclass
class _Part:
    """A source partition: its seals, and its rows behind ``chain.position``.

    ``rolling`` are those that a call which failed has begun to write: as they are, they may be sealed.
    """

    chain: SealChain
    next: _Rows
    since: float = 0.0
    rolling: _Rows | None = None

    @property
    def pending(self) -> bool:
        return self.next.end > self.chain.position

    @property
    def nbytes(self) -> int:
        return self.next.nbytes + (self.rolling.nbytes if self.rolling else 0)


class FileWriter:
    """The live part of a file sink. File work runs in a thread, one call at a time."""

    def __init__(self, sink: _FileSink, context: SinkContext) -> None:
        self._sink, self._context = sink, context
        held = pl.Schema({n: t for n, t in context.columns.items() if n not in sink.folders})
        self._room = sink.storage.longest - _FILE_NAME_BYTES
        self._checks = ColumnChecks(sink.format.columns(held), ())
        self._parts: dict[PartitionId, _Part] = {}

    async def start(self) -> None:
        """Make the storage ready and try what the seals stand on."""
        await asyncio.to_thread(self._sink.storage.prepare, self._context.owner)

    async def reach(self) -> None:
        await asyncio.to_thread(self._sink.storage.reach)

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        positions = {}
        for partition, start in partitions.items():
            names = self._context.topology, self._context.sink
            chain = SealChain(self._sink.storage, *names, partition, self._context.owner)
            positions[partition] = await asyncio.to_thread(chain.take_over, start)
            self._parts[partition] = _Part(chain, _Rows(chain.position))
        return positions

    async def write(self, batch: Batch) -> None:
        part = self._parts.get(batch.source)
        if part is None or batch.range.start != part.next.end:
            raise Permanent(
                "this batch does not follow the one before it" if part else "this partition is not open here",
                where=f"{self._sink.name}, {batch.source}/{batch.range.start}",
                allowed=None if part is None else [part.next.end],
            )
        frame = await self._without_refused(batch)
        size = int(frame.estimated_size())
        if self._is_due(part, frame.height, size):
            await self._roll(part)
        await self._make_room(size)
        if not part.pending:
            part.since = self._context.clock()
        rows = part.next
        if frame.height:
            rows.frames.append(frame.drop(HIDDEN))
        rows.count, rows.nbytes, rows.end = rows.count + frame.height, rows.nbytes + size, batch.range.end

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        for part in self._parts.values():
            if part.pending and (reason in _LASTING or self._is_due(part, 0, 0)):
                await self._roll(part)
        return {partition: part.chain.position for partition, part in self._parts.items()}

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        for partition in partitions:
            self._parts.pop(partition, None)

    async def close(self) -> None:
        self._parts.clear()

    def _is_due(self, part: _Part, rows: int, size: int) -> bool:
        """Would *rows* more be too much for a file, or is it old? After a step back of the clock it is."""
        sink, age = self._sink, self._context.clock() - part.since
        full = part.next.count + rows > sink.roll_rows or part.next.nbytes + size > sink.roll_bytes
        return part.pending and (full or not 0 <= age < sink.roll_seconds)

    async def _make_room(self, size: int) -> None:
        """Roll the largest ranges until *size* bytes more fit into the memory limit."""
        held = sum(part.nbytes for part in self._parts.values())
        for part in sorted(self._parts.values(), key=lambda part: -part.nbytes):
            if held + size <= self._context.memory_limit or not part.nbytes:
                return
            held -= part.nbytes
            await self._roll(part)

    async def _roll(self, part: _Part) -> None:
        """Write all that is pending; first what a call that failed has begun."""
        while part.pending:
            if part.rolling is None:
                part.rolling, part.next = part.next, _Rows(part.next.end)
            await asyncio.to_thread(self._add, part, part.rolling)
            part.rolling = None

    def _add(self, part: _Part, rows: _Rows) -> None:
        part.chain.add(rows.end, rows.count, self._outputs(part, rows), self._context.crash_point)

    def _outputs(self, part: _Part, rows: _Rows) -> list[Output]:
        """The files of the range; none when it has no rows."""
        if not rows.frames:
            return []
        frame, write = pl.concat(rows.frames), self._sink.format.write
        name = part.chain.output_name(self._sink.format.suffix)
        if not self._sink.folders:
            return [Output(name, partial(write, frame))]
        parts = frame.partition_by(*self._sink.folders, as_dict=True, include_key=False, maintain_order=True)
        return [
            Output(f"{self._path(values)}/{name}", partial(write, rows)) for values, rows in parts.items()
        ]

    def _path(self, values: tuple[object, ...]) -> str:
        return "/".join(folder_name(*pair) for pair in zip(self._sink.folders, values, strict=True))

    async def _without_refused(self, batch: Batch) -> pl.DataFrame:
        """The rows that the format can hold and whose folders can be named; others become dead letters."""
        frame, stage = batch.frame, self._context.sink
        for refused in (self._checks.refused, partial(unnamed, self._sink.folders, self._room)):
            frame, rejects = refused(frame, stage)
            if len(rejects):
                await self._context.refuse(batch, rejects)
        return frame
