"""JSON: one document a message, lines of documents, or an array of documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.contracts import Decoder
from streamcore.errors import BadConfig
from streamcore.formats.json_decoder import JsonDecoder
from streamcore.schema import StreamSchema


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
        text = _plain(frame).write_ndjson().encode()
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 10)
        if ends[-1] >= 1 << 31:
            raise ValueError("a batch of more than 2 GB of JSON")
        starts = np.zeros(len(ends) + 1, np.int32)
        if self.array:
            text = b"[" + text[:-1].replace(b"\n", b"][") + b"]"
            starts[1:] = ends + np.arange(len(ends)) + 2
        else:
            text = text.replace(b"\n", b"")
            starts[1:] = ends - np.arange(len(ends))
        return pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(starts), pa.py_buffer(text)])


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Types that polars' writer does not know, or spells other than ISO 8601, as text."""
    exprs = []
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Binary):
            exprs.append(pl.col(name).bin.encode("base64"))
        elif isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            exprs.append(pl.col(name).dt.to_string("iso:strict"))
    return frame.with_columns(exprs) if exprs else frame
