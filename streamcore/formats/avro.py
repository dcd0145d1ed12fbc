"""Avro: one record a message, with the id of its schema in a registry, or bare."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from functools import lru_cache

import polars as pl
import pyarrow as pa

from streamcore.asking import Reference
from streamcore.contracts import Decoder, Format
from streamcore.errors import BadConfig, Permanent
from streamcore.formats.avro_blocks import decimal_bytes, written
from streamcore.formats.avro_decoder import AvroDecoder
from streamcore.formats.avro_schema import Part, WriterSchema, schema_of
from streamcore.formats.framing import Registry, frame_of
from streamcore.schema import StreamSchema
from streamcore.schema.types import instance_of


@dataclass(frozen=True, slots=True)
class Avro:
    """One Avro record a message.

    With a *registry* a message begins with a 0 and its schema's id, as Confluent's serializers write it; the
    schema is fetched once. While the registry does not answer, the partition waits. An id that it does not
    have makes dead letters. Without one, messages are records of *schema* (JSON), or else of the schema that
    the stream's columns have when we write them.

    Writing: each column may be null, and is null by default, so that columns can come and go. Times have
    microseconds. The schema is registered under *subject*, ``{topic}-value`` unless it is given.
    """

    registry: Registry | None = None
    _: KW_ONLY
    schema: str = ""
    subject: str = ""
    registered: int | None = field(default=None, repr=False)
    """The id to write, see :meth:`prepared`."""

    def __post_init__(self) -> None:
        if self.registry is not None and self.schema:
            raise BadConfig("Avro(registry, schema=…)", fix="messages name their schema: leave schema away")
        if self.schema:
            WriterSchema.of(self.schema)  # says now what is wrong

    @property
    def name(self) -> str:
        return "avro"

    @property
    def reference(self) -> Reference | None:
        """The registry."""
        return self.registry

    def decoder(self, schema: StreamSchema) -> Decoder:
        """BadConfig for a column that Avro does not have, unless the messages say what they hold."""
        own = None if self.registry else WriterSchema.of(self.schema or schema_of(schema.columns))
        return AvroDecoder(schema, self.registry, own)

    async def prepared(self, topic: str, columns: pl.Schema) -> Format:
        """With the id of the schema of *columns*."""
        if self.registry is None:
            return self
        subject = self.subject or f"{topic}-value"
        return replace(self, registered=await self.registry.register(subject, schema_of(columns)))

    def encode(self, frame: pl.DataFrame) -> pa.BinaryArray:
        """One record a row. BadConfig for a column that Avro does not have, also without rows."""
        record = _record_of(tuple(frame.schema.items()))
        if not frame.height:
            return pa.array([], pa.binary())
        if self.registry is not None and self.registered is None:
            raise Permanent("nobody has registered the schema to write with", where=self.registry.name)
        head = b"" if self.registered is None else frame_of(self.registered)
        return written(record, _plain(frame), head)


@lru_cache(maxsize=256)
def _record_of(columns: tuple[tuple[str, pl.DataType], ...]) -> Part:
    return WriterSchema.of(schema_of(pl.Schema(columns))).record


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Types that polars' writer does not know, as those that have the same bytes in Avro."""
    exprs = []
    for name, dtype in frame.schema.items():
        plain = _plain_type(dtype)
        if dtype == pl.Time:
            exprs.append(pl.col(name).cast(pl.Int64) // 1_000)
        elif dtype == pl.UInt64 or isinstance(dtype, pl.Decimal):
            exprs.append(pl.lit(decimal_bytes(frame[name])).alias(name))  # polars writes 0 as no bytes at all
        elif plain != dtype:
            exprs.append(pl.col(name).cast(plain))
    return frame.with_columns(exprs) if exprs else frame


_PLAIN: dict[type[pl.DataType], pl.DataType] = {
    pl.Int8: pl.Int32(),
    pl.Int16: pl.Int32(),
    pl.UInt8: pl.Int32(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.Categorical: pl.String(),
    pl.Enum: pl.String(),
    pl.Datetime: pl.Int64(),
}


def _plain_type(dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.List):
        return pl.List(_plain_type(instance_of(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({one.name: _plain_type(instance_of(one.dtype)) for one in dtype.fields})
    return _PLAIN.get(type(dtype), dtype)
