"""The changelog of a table: records by some format, of which the one without a value deletes its key's row.

That is what a compacted topic holds. A tombstone has nothing but its record's key, from which the columns of
the table's key are read; all its other columns are null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import orjson
import polars as pl
import pyarrow as pa

from streamcore.asking import Asking, AskingDecoder, AskingFormat, Reference, decoding, prepared
from streamcore.batch import OFFSET, OP, OP_DELETE, SUB, Chunk, Int64s, PartitionId, RecordChunk, Rejects
from streamcore.contracts import Decoded, Decoder, Format
from streamcore.errors import BadConfig
from streamcore.formats.json import Json
from streamcore.schema import StreamSchema
from streamcore.schema.cast import cast_column

KeyFormat: TypeAlias = Literal["text", "json"]
KEY_FORMATS = ("text", "json")
SEPARATOR = "|"
"""Stands between the columns of a key of text, as a Topic sink writes it."""
_TOMBSTONE = pl.col("code") == "tombstone"
_UNREADABLE = "the tombstone's key can't be read as the table's key"
_NOWHERE = PartitionId("", 0, "")


@dataclass(frozen=True, slots=True)
class Keyed:
    """Values in the format *values*; tombstones delete the row that their key names.

    ``key_format`` says how a record's key holds the columns *key*: "text" as a Topic sink writes it (the
    columns' text, joined by ``|``), "json" as an object, or as a plain value if it is one column. A tombstone
    whose key says no row is a reject with the code "key".
    """

    values: Format
    key: tuple[str, ...]
    key_format: KeyFormat = "text"

    def __post_init__(self) -> None:
        if self.key_format not in KEY_FORMATS:
            raise BadConfig("unknown key_format", got=self.key_format, allowed=KEY_FORMATS)
        if self.values.name == "raw":
            raise BadConfig("a table's records need columns, which raw ones have not", fix='format="json"')

    @property
    def name(self) -> str:
        """That of the values."""
        return self.values.name

    def decoder(self, schema: StreamSchema) -> Decoder:
        """BadConfig as the format of the values, and for a key that JSON can't hold."""
        columns = {name: schema.columns[name] for name in self.key}
        keys = StreamSchema.from_columns(columns, frozenset(columns))
        return _Decoder(schema, keys, self.key_format, self.values.decoder(schema), Json().decoder(keys))

    @property
    def reference(self) -> Reference | None:
        """That of the values, if they have one."""
        return self.values.reference if isinstance(self.values, AskingFormat) else None

    async def prepared(self, topic: str, columns: pl.Schema) -> Format:
        """The same with its values prepared."""
        return replace(self, values=await prepared(self.values, topic, columns))

    def encode(self, frame: pl.DataFrame) -> pa.BinaryArray:
        """As the format of the values does."""
        return self.values.encode(frame)


@dataclass(frozen=True, slots=True)
class _Decoder(AskingDecoder):
    schema: StreamSchema
    keys: StreamSchema
    key_format: KeyFormat
    values: Decoder
    json: Decoder

    def asking(self, chunk: Chunk) -> Asking[Decoded]:
        """See :class:`streamcore.asking.AskingDecoder`."""
        decoded = yield from decoding(self.values, chunk)
        refused = decoded.rejects.frame
        gone = refused.filter(_TOMBSTONE)
        if not gone.height:
            return decoded
        offsets = gone[OFFSET].to_numpy()
        all_keys = chunk.keys()
        named = self._named(offsets, [all_keys[place] for place in chunk.index(offsets)])
        deleted = named.with_columns(
            pl.lit(None, dtype).alias(name)
            for name, dtype in self.schema.columns.items()
            if name not in self.keys.columns
        ).select(decoded.frame.columns)
        unnamed = gone.join(named, on=OFFSET, how="anti", maintain_order="left")
        rejects = Rejects.of(unnamed, "decode", "key", _UNREADABLE)
        return Decoded(
            pl.concat([decoded.frame, deleted]).sort(OFFSET, SUB),
            Rejects(pl.concat([refused.filter(~_TOMBSTONE), rejects.frame]).sort(OFFSET, SUB)),
        )

    def _named(self, offsets: Int64s, keys: Sequence[bytes | None]) -> pl.DataFrame:
        """The key columns and the hidden ones of the tombstones at *offsets* whose *keys* can be read."""
        if self.key_format == "text":
            named = self._from_text(offsets, keys)
        else:
            documents = [self._document(key) for key in keys]
            source = RecordChunk(_NOWHERE, offsets, documents)
            named = self.json.decode(source).frame.select(OFFSET, *self.keys.columns)
        return named.with_columns(pl.lit(0, pl.UInt32).alias(SUB), pl.lit(OP_DELETE, pl.UInt8).alias(OP))

    def _document(self, key: bytes | None) -> bytes | None:
        """*key* as a JSON object: a plain value is that of the only column."""
        names = self.keys.columns.names()
        if key is None or len(names) > 1 or key.lstrip()[:1] == b"{":
            return key
        return b"{%b:%b}" % (orjson.dumps(names[0]), key)

    def _from_text(self, offsets: Int64s, keys: Sequence[bytes | None]) -> pl.DataFrame:
        columns = [pl.Series(OFFSET, offsets, pl.Int64)]
        types = self.keys.columns
        for (name, dtype), part in zip(types.items(), _parts(keys, types.dtypes()), strict=True):
            columns.append(cast_column(part, dtype)[0].alias(name))
        return pl.DataFrame(columns).drop_nulls()


def _parts(keys: Sequence[bytes | None], types: Sequence[pl.DataType]) -> list[pl.Series]:
    """The text of each column of *keys*; null where a key has others, or is none."""
    if types == [pl.Binary()]:
        return [pl.Series(keys, dtype=pl.Binary)]
    texts = pl.Series("key", [_text(key) for key in keys], pl.String)
    if len(types) == 1:
        return [texts]
    parts = (
        texts.str.split(SEPARATOR)
        .to_frame()
        .select(pl.when(pl.col("key").list.len() == len(types)).then(pl.col("key")))["key"]
    )
    return [parts.list.get(place, null_on_oob=True) for place in range(len(types))]


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None
