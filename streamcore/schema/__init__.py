"""Event models, the columns that they stand for, and their checks."""

from streamcore.schema.stream import Event, Refusal, StreamSchema
from streamcore.schema.types import TYPE_NAMES, type_named

__all__ = ["TYPE_NAMES", "Event", "Refusal", "StreamSchema", "type_named"]
