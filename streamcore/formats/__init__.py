"""How a topic's values are written: bytes to columns and back."""

from __future__ import annotations

from collections.abc import Mapping

from streamcore.contracts import Decoder, Format
from streamcore.errors import BadConfig, did_you_mean
from streamcore.formats.arrow import Arrow
from streamcore.formats.avro import Avro
from streamcore.formats.frame import ChunkDecoder
from streamcore.formats.json import Json
from streamcore.formats.json_schema import JsonSchema
from streamcore.formats.raw import Raw
from streamcore.schema import StreamSchema

FORMATS: Mapping[str, Format] = {
    "json": Json(),
    "ndjson": Json(lines=True),
    "json_array": Json(array=True),
    "raw": Raw(),
    "arrow": Arrow(),
    "avro": Avro(),
}
"""Every format by its name in configuration."""


def format_named(name: str) -> Format:
    """The format called *name*; BadConfig with the known names otherwise."""
    found = FORMATS.get(name)
    if found is None:
        raise BadConfig("unknown format", got=name, allowed=FORMATS, fix=did_you_mean(name, FORMATS))
    return found


def decoder_for(form: Format, schema: StreamSchema) -> Decoder:
    """The decoder of a stream: bytes by *form*, frames of columnar sources by their columns.

    It applies the schema's checks (rejects of stage "decode" for what can't be read, "schema" for what
    breaks a constraint) and passes the chunk's own rejects on.
    """
    return ChunkDecoder(schema, form.decoder(schema))


__all__ = ["FORMATS", "Arrow", "Avro", "Json", "JsonSchema", "Raw", "decoder_for", "format_named"]
