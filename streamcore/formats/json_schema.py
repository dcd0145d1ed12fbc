"""JSON documents that name their JSON Schema in a registry, as Confluent's serializers write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from streamcore.asking import Reference
from streamcore.batch import Chunk, RecordChunk
from streamcore.contracts import Decoded, Decoder, Format
from streamcore.errors import BadConfig, Permanent
from streamcore.formats.framing import FRAME_BYTES, Registry, frame_of, ids_of, refused
from streamcore.formats.json import Json
from streamcore.formats.rows import with_messages
from streamcore.schema import StreamSchema
from streamcore.schema.types import instance_of

_DRAFT = "http://json-schema.org/draft-07/schema#"


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """One JSON object a message, behind a 0 and the id of its schema in *registry*.

    Reading asks the registry nothing: the stream's event says what a document must be, and judges it as
    :class:`~streamcore.formats.json.Json` does. Writing registers the schema of the columns, which may each
    be null or missing, under *subject*, ``{topic}-value`` unless it is given.
    """

    registry: Registry
    _: KW_ONLY
    subject: str = ""
    registered: int | None = field(default=None, repr=False)
    """The id to write, see :meth:`prepared`."""

    @property
    def name(self) -> str:
        return "json_schema"

    @property
    def reference(self) -> Reference | None:
        """None: decoders do not ask."""
        return None

    def decoder(self, schema: StreamSchema) -> Decoder:
        """BadConfig as JSON's."""
        return _Decoder(Json().decoder(schema))

    async def prepared(self, topic: str, columns: pl.Schema) -> Format:
        """With the id of the schema of *columns*."""
        subject = self.subject or f"{topic}-value"
        return replace(self, registered=await self.registry.register(subject, schema_of(columns), "JSON"))

    def encode(self, frame: pl.DataFrame) -> pa.BinaryArray:
        """One document a row. BadConfig for a column that JSON does not have, also without rows."""
        schema_of(frame.schema)
        if frame.height and self.registered is None:
            raise Permanent("nobody has registered the schema to write with", where=self.registry.name)
        frames = pa.scalar(frame_of(self.registered or 0), pa.binary())
        return pc.binary_join_element_wise(frames, Json().encode(frame), pa.scalar(b"", pa.binary()))


@dataclass(frozen=True, slots=True)
class _Decoder:
    documents: Decoder

    def decode(self, chunk: Chunk) -> Decoded:
        values, offsets = chunk.values(), chunk.offsets()
        ids = ids_of(values)
        framed = np.flatnonzero(ids >= 0)
        bodies = [(values[place] or b"")[FRAME_BYTES:] for place in framed.tolist()]
        decoded = self.documents.decode(RecordChunk(chunk.source, offsets[framed], bodies))
        others = refused(ids, offsets)
        return Decoded(decoded.frame, with_messages(decoded.rejects, others)) if others else decoded


def schema_of(columns: pl.Schema) -> str:
    """The JSON Schema of an object with *columns*. BadConfig for a type that JSON does not have."""
    properties = {name: _property(dtype, name) for name, dtype in columns.items()}
    # Closed, or a registry does not let a column be added: others might have written it with another type.
    closed = {"type": "object", "properties": properties, "additionalProperties": False}
    return json.dumps({"$schema": _DRAFT, "title": "row", **closed})


def _property(dtype: pl.DataType, where: str) -> dict[str, object]:
    """A value of *dtype*, or null."""
    kind, more = _type_of(dtype, where)
    return {"type": [kind, "null"], **more}


def _type_of(dtype: pl.DataType, where: str) -> tuple[str, Mapping[str, object]]:
    if dtype.is_integer():
        return "integer", {}
    if dtype.is_float():
        return "number", {}
    if isinstance(dtype, pl.List):
        return "array", {"items": _property(instance_of(dtype.inner), where)}
    if isinstance(dtype, pl.Struct):
        inner = {one.name: _property(instance_of(one.dtype), f"{where}.{one.name}") for one in dtype.fields}
        return "object", {"properties": inner}
    found = _LEAVES.get(type(dtype))
    if found is None:
        what = f"column {where!r} has a type that JSON does not have"
        raise BadConfig(what, got=str(dtype), fix="cast_type() it")
    return found


_LEAVES: Mapping[type[pl.DataType], tuple[str, Mapping[str, object]]] = {
    pl.Boolean: ("boolean", {}),
    pl.String: ("string", {}),
    pl.Categorical: ("string", {}),
    pl.Enum: ("string", {}),
    pl.Decimal: ("string", {"title": "decimal"}),
    pl.Binary: ("string", {"contentEncoding": "base64"}),
    pl.Date: ("string", {"format": "date"}),
    pl.Time: ("string", {"format": "time"}),
    pl.Datetime: ("string", {"format": "date-time"}),
}
