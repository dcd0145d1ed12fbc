"""Raw bytes: nothing is read, nothing can fail."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from streamcore.batch import Chunk, Rejects, hide
from streamcore.contracts import Decoded, Decoder
from streamcore.errors import BadConfig
from streamcore.schema import StreamSchema

COLUMNS = pl.Schema({"value": pl.Binary, "key": pl.Binary})


@dataclass(frozen=True, slots=True)
class Raw:
    """Columns ``value`` and ``key`` (Binary, null for a tombstone and for a record without a key).

    Writing takes ``value`` (Binary or String) and leaves the key to the sink.
    """

    @property
    def name(self) -> str:
        return "raw"

    def decoder(self, schema: StreamSchema) -> Decoder:
        """The schema may have ``value`` and ``key`` only, both Binary."""
        for column, dtype in schema.columns.items():
            if COLUMNS.get(column) != dtype:
                raise BadConfig(
                    f"raw messages have no column {column!r} of type {dtype}",
                    allowed=(f"{n} {t}" for n, t in COLUMNS.items()),
                    fix="choose another format, or declare the stream without an event",
                )
        return _RawDecoder(schema)

    def encode(self, frame: pl.DataFrame) -> pa.BinaryArray:
        """The column ``value``; BadConfig without it."""
        if frame.schema.get("value") not in (pl.Binary, pl.String):
            raise BadConfig(
                "raw output needs a column 'value' of bytes or strings",
                got=frame.columns,
                fix="add it, or use JSON",
            )
        values = frame["value"].cast(pl.Binary).to_arrow()
        return values.cast(pa.binary())


@dataclass(frozen=True, slots=True)
class _RawDecoder:
    schema: StreamSchema

    def decode(self, chunk: Chunk) -> Decoded:
        columns = {"value": chunk.values, "key": chunk.keys}
        series = [pl.Series(n, columns[n](), pl.Binary) for n in self.schema.columns]
        frame = hide(pl.DataFrame(series), chunk.offsets())
        missing = [n for n in self.schema.columns if n in self.schema.required and frame[n].has_nulls()]
        if not missing:
            return Decoded(frame, Rejects())
        null = pl.any_horizontal([pl.col(n).is_null() for n in missing])
        refused = Rejects.of(frame.filter(null), "schema", "null", f"{' or '.join(missing)} is null")
        return Decoded(frame.filter(~null), refused)
