"""Messages that begin with the id of their schema in a registry: Confluent's wire format.

A 0, the id (four bytes, big-endian), and what the schema says. Source:
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from streamcore.asking import Reference
from streamcore.batch import Int64s
from streamcore.schema import Refusal

FRAME_BYTES = 5
UNFRAMED, TOMBSTONE = -1, -2
"""In place of an id: the message does not begin with one, or has no value."""
REFUSALS = {
    UNFRAMED: Refusal("framing", "the message does not begin with a 0 and the four bytes of a schema's id"),
    TOMBSTONE: Refusal("tombstone", "the message has no value"),
}
SchemaKind = Literal["AVRO", "JSON"]


class Registry(Reference, Protocol):
    """Where schemas are kept by their ids: ``rows`` of its reader are as ``avro_decoder.SCHEMAS`` says."""

    async def register(self, subject: str, schema: str, kind: SchemaKind = "AVRO") -> int:
        """The id of *schema* (JSON) under *subject*, which gets it if it does not have it yet.

        Permanent when it may not be followed by this one, or it refuses it; Transient as readers raise it.
        """
        ...


def ids_of(values: Sequence[bytes | None]) -> Int64s:
    """The id that each of *values* begins with, UNFRAMED or TOMBSTONE; shape (messages,)."""
    return np.fromiter(map(_id_of, values), np.int64, len(values))


def _id_of(value: bytes | None) -> int:
    if value is None:
        return TOMBSTONE
    framed = len(value) >= FRAME_BYTES and value[0] == 0
    return int.from_bytes(value[1:FRAME_BYTES], "big") if framed else UNFRAMED


def refused(ids: Int64s, offsets: Int64s) -> list[tuple[int, Refusal]]:
    """The messages at *offsets* that have none of *ids*, and why."""
    return [(int(offsets[place]), REFUSALS[int(ids[place])]) for place in np.flatnonzero(ids < 0)]


def frame_of(number: int) -> bytes:
    """What stands before a message of the schema with the id *number*."""
    return number.to_bytes(FRAME_BYTES, "big")
