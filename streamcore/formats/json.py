"""JSON: one document a message, lines of documents, or an array of documents."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import polars as pl
import pyarrow as pa

from streamcore.contracts import Decoder
from streamcore.errors import BadConfig
from streamcore.formats.json_decoder import JsonDecoder
from streamcore.schema import StreamSchema

_FEW = 128
"""Up to so many rows cost less by way of orjson than a call of polars does."""
_ALIKE = frozenset(
    {pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64}
    | {pl.Float64, pl.Boolean, pl.String}
)
"""Types of which orjson and polars write the same text."""


@dataclass(frozen=True, slots=True)
class Json:
    """One JSON object a message; with *lines* one a line of each message, with *array* an array of them.

    With several documents in a message, a row's ``_sub`` is its line or its place in the array. Reading
    is strict: a value of another type than the field's passes only if pydantic converts it ("5" for an
    int does, 5.5 does not). Unknown fields are ignored, the first value of a repeated key counts, a
    tombstone is a reject with code "tombstone".

    Writing gives one object a row, also with *lines* or *array* (then as an array of one). Times are
    ISO 8601, bytes base64, decimals strings; NaN and infinities, which JSON does not have, become null.
    """

    lines: bool = False
    array: bool = False

    def __post_init__(self) -> None:
        if self.lines and self.array:
            raise BadConfig("Json(lines=True, array=True)", fix="choose one of them")

    @property
    def name(self) -> str:
        return "ndjson" if self.lines else "json_array" if self.array else "json"

    def decoder(self, schema: StreamSchema) -> Decoder:
        """A strict decoder; BadConfig for a column type that JSON can't hold."""
        return JsonDecoder(schema, lines=self.lines, array=self.array)

    def encode(self, frame: pl.DataFrame) -> pa.BinaryArray:
        """One JSON document a row. A frame must stay below 2 GB of text."""
        if frame.height == 0:
            return pa.array([], pa.binary())
        if frame.height <= _FEW and _ALIKE.issuperset(map(type, frame.dtypes)):
            # Sooner than to_dicts().
            names, columns = frame.columns, [column.to_list() for column in frame.get_columns()]
            documents = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            return pa.array([orjson.dumps([d] if self.array else d) for d in documents], pa.binary())
        document = pl.struct(pl.all()).struct.json_encode()
        if self.array:
            document = pl.concat_str(pl.lit("["), document, pl.lit("]"))
        texts = _plain(frame).select(document).to_series()
        # The layout with offsets at once: text views would have to be copied for binary.
        return texts.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.binary())


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Types that polars' writer does not know, or spells other than ISO 8601, as text."""
    exprs = []
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Binary):
            exprs.append(pl.col(name).bin.encode("base64"))
        elif isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            exprs.append(pl.col(name).dt.to_string("iso:strict"))
    return frame.with_columns(exprs) if exprs else frame
