"""Avro records to columns: by polars where it provably says the same as fastavro, else by fastavro.

Records of one schema are read at once (:mod:`streamcore.formats.avro_blocks`). When one of them is not right,
or the schema has what polars does not read (maps, unions of several types), all of them go by rows: each must
take its whole message, and the stream's event judges it. The columns of the writer's schema meet those of the
stream by name, as those of a file do: new fields are not looked at, missing ones have the event's defaults,
and numbers widen.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import fastavro
import numpy as np
import polars as pl

from streamcore.asking import Asked, Asking, AskingDecoder, Reference
from streamcore.batch import OFFSET, SUB, Chunk, Int64s, Rejects, hide
from streamcore.contracts import Decoded
from streamcore.errors import BadConfig
from streamcore.formats.avro_blocks import read_block
from streamcore.formats.avro_schema import WriterSchema
from streamcore.formats.frame import judge_frame
from streamcore.formats.framing import FRAME_BYTES, TOMBSTONE, ids_of, refused
from streamcore.formats.rows import RowVerdicts, assemble, with_messages
from streamcore.schema import Refusal, StreamSchema

ID, SCHEMA, REFERENCES = "id", "schema", "references"
SCHEMAS = pl.Schema({ID: pl.Int64(), SCHEMA: pl.String(), REFERENCES: pl.List(pl.String)})
"""What a registry answers: the text of a schema, and those that it refers to, each after what it needs."""
_FEW = 16
"""Below this many records fastavro is cheaper than a call of polars."""

Known: TypeAlias = "WriterSchema | Refusal"


class AvroDecoder(AskingDecoder):
    """Messages that name their schema's id in *registry*, or, without one, records of the schema *own*."""

    def __init__(self, schema: StreamSchema, registry: Reference | None, own: WriterSchema | None) -> None:
        self._schema, self._registry, self._own = schema, registry, own
        self._known: dict[int, Known] = {}
        """Schemas by their ids, for good: an id never gets another one."""

    def asking(self, chunk: Chunk) -> Asking[Decoded]:
        """See :class:`streamcore.asking.AskingDecoder`. A message whose id is not known is a reject."""
        values, offsets = chunk.values(), chunk.offsets()
        if self._registry is None:
            ids = np.array([TOMBSTONE if value is None else 0 for value in values], np.int64)
        else:
            ids = ids_of(values)
        groups = {int(one): np.flatnonzero(ids == one) for one in np.unique(ids[ids >= 0])}
        known = yield from self._schemas(groups)
        messages = refused(ids, offsets)
        head = 0 if self._registry is None else FRAME_BYTES
        parts = []
        for one, places in groups.items():
            bodies = [(values[place] or b"")[head:] for place in places.tolist()]
            made = self._group(known[one], bodies, offsets[places])
            if isinstance(made, Refusal):
                messages += [(int(offset), made) for offset in offsets[places]]
            else:
                parts.append(made)
        return self._joined(parts, messages)

    def _schemas(self, ids: Collection[int]) -> Asking[Mapping[int, Known]]:
        """The schema of each of *ids*."""
        if self._registry is None:
            assert self._own is not None
            return dict.fromkeys(ids, self._own)
        missing = [one for one in ids if one not in self._known]
        if missing:
            keys = pl.DataFrame({ID: missing}, schema={ID: pl.Int64})
            rows = yield Asked(self._registry.name, self._registry, keys)
            self._known |= {one: _parsed(text, references) for one, text, references in rows.iter_rows()}
        return {one: self._known.get(one, _unknown(one)) for one in ids}

    def _group(self, schema: Known, bodies: Sequence[bytes], offsets: Int64s) -> Decoded | Refusal:
        """The records *bodies*, all written with *schema*."""
        if isinstance(schema, Refusal):
            return schema
        if schema.record.columnar and len(bodies) >= _FEW:
            frame = read_block(schema, bodies)
            made = None if frame is None else self._of_frame(frame, offsets)
            if made is not None:
                return made
        return self._by_rows(schema, bodies, offsets)

    def _of_frame(self, frame: pl.DataFrame, offsets: Int64s) -> Decoded | None:
        """The rows of *frame*; None where the event needs a column that it does not have."""
        categories = [name for name, dtype in frame.schema.items() if dtype == pl.Categorical]
        frame = frame.with_columns(pl.col(categories).cast(pl.String)) if categories else frame
        try:
            proved, places, verdicts = judge_frame(self._schema, frame)
        except BadConfig:
            return None
        return assemble(self._schema, offsets, None, proved, places, verdicts)

    def _by_rows(self, schema: WriterSchema, bodies: Sequence[bytes], offsets: Int64s) -> Decoded:
        verdicts = RowVerdicts()
        for place, body in enumerate(bodies):
            row = _read(schema, body)
            if isinstance(row, Refusal):
                verdicts.add(place, row, "decode")
            else:
                verdicts.add(place, self._schema.parse(row))
        nothing, none = pl.DataFrame(schema=self._schema.columns), np.empty(0, np.intp)
        return assemble(self._schema, offsets, None, nothing, none, verdicts)

    def _joined(self, parts: Sequence[Decoded], messages: list[tuple[int, Refusal]]) -> Decoded:
        if not parts:
            empty = hide(pl.DataFrame(schema=self._schema.columns), np.empty(0, np.int64))
            parts = [Decoded(empty, Rejects())]
        frame, rejects = parts[0].frame, Rejects.join([part.rejects for part in parts])
        if len(parts) > 1:
            frame = pl.concat([part.frame for part in parts]).sort(OFFSET, SUB)
            rejects = Rejects(rejects.frame.sort(OFFSET, SUB, maintain_order=True))
        return Decoded(frame, with_messages(rejects, messages) if messages else rejects)


def _unknown(number: int) -> Refusal:
    return Refusal("schema_id", f"the registry has no schema with the id {number}")


def _parsed(text: str, references: Sequence[str]) -> Known:
    try:
        return WriterSchema.of(text, references)
    except BadConfig as error:
        return Refusal("writer_schema", str(error))


def _read(schema: WriterSchema, body: bytes) -> dict[str, object] | Refusal:
    """The record that is all of *body*, as Python objects."""
    stream = io.BytesIO(body)
    try:
        row = fastavro.schemaless_reader(stream, dict(schema.parsed), None)
    except (
        EOFError,
        ValueError,
        LookupError,
        ArithmeticError,
        TypeError,
    ) as error:
        return Refusal("avro", f"no record of the schema {schema.name} ({type(error).__name__})")
    if stream.tell() != len(body) or not isinstance(row, dict):
        return Refusal("avro", f"more bytes than a record of the schema {schema.name}")
    return {name: str(value) if isinstance(value, uuid.UUID) else value for name, value in row.items()}
