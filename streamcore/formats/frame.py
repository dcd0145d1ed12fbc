"""Frames of columnar sources (Parquet, CSV, tables) to a stream's columns, strictly.

Each column is cast where the cast says what pydantic would say; a value that the cast can't prove, or
that a compiled check doubts, puts its row before pydantic, with the cast values of the row's other columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.asking import Asking, AskingDecoder, decoding
from streamcore.batch import OFFSET, SUB, Chunk, Rejects
from streamcore.contracts import Decoded, Decoder
from streamcore.errors import BadConfig, did_you_mean
from streamcore.formats.rows import Places, RowVerdicts, assemble
from streamcore.schema import StreamSchema
from streamcore.schema.cast import cast_column


@dataclass(frozen=True, slots=True)
class ChunkDecoder(AskingDecoder):
    """Records by the format's decoder, frames by their columns; the chunk's own rejects are passed on."""

    schema: StreamSchema
    records: Decoder

    def asking(self, chunk: Chunk) -> Asking[Decoded]:
        """See :class:`streamcore.asking.AskingDecoder`."""
        if chunk.frame is None:
            decoded = yield from decoding(self.records, chunk)
        else:
            proved, places, verdicts = judge_frame(self.schema, chunk.frame)
            decoded = assemble(self.schema, chunk.offsets(), None, proved, places, verdicts)
        if not len(chunk.rejects):
            return decoded
        rejects = Rejects.join([chunk.rejects, decoded.rejects])
        return Decoded(decoded.frame, Rejects(rejects.frame.sort(OFFSET, SUB, maintain_order=True)))


def judge_frame(schema: StreamSchema, frame: pl.DataFrame) -> tuple[pl.DataFrame, Places | None, RowVerdicts]:
    """Rows of *frame* proved right in the schema's columns, their places (None: all), and the others.

    BadConfig lists the columns that exist when a required one is missing.
    """
    inputs = _inputs(schema, frame)
    columns, doubts = [], np.zeros(frame.height, bool)
    lost: dict[str, npt.NDArray[np.bool_]] = {}
    for name, dtype in schema.columns.items():
        source = inputs.get(name)
        values, unsure = (
            (pl.Series(name, [], dtype).extend_constant(None, frame.height), None)
            if source is None
            else cast_column(frame[source], dtype)
        )
        columns.append(values.alias(name))
        if unsure is not None and unsure.any():
            lost[name] = unsure.to_numpy()
            doubts |= lost[name]
    proved = pl.DataFrame(columns)
    doubts |= schema.judge.in_doubt(proved)
    verdicts = RowVerdicts()
    if not doubts.any():
        return proved, None, verdicts
    doubted = np.flatnonzero(doubts)
    for place, row in zip(
        doubted.tolist(), _objects(schema, frame, proved, inputs, lost, doubted), strict=True
    ):
        verdicts.add(place, schema.parse(row))
    return proved.filter(pl.Series(~doubts)), np.flatnonzero(~doubts), verdicts


def _inputs(schema: StreamSchema, frame: pl.DataFrame) -> dict[str, str]:
    """The input column of each column that has one."""
    found: dict[str, str] = {}
    for name, names in schema.judge.names.items():
        source = next((n for n in names if n in frame.columns), None)
        if source is not None:
            found[name] = source
        elif name in schema.required:
            raise BadConfig(
                f"the input has no column {' or '.join(repr(n) for n in names)}",
                allowed=frame.columns,
                fix=did_you_mean(name, frame.columns) or "give the field an alias or a default",
            )
    return found


def _objects(
    schema: StreamSchema,
    frame: pl.DataFrame,
    proved: pl.DataFrame,
    inputs: dict[str, str],
    lost: dict[str, npt.NDArray[np.bool_]],
    doubted: Places,
) -> list[dict[str, Any]]:
    """The rows in doubt as pydantic gets them: cast values, the original where the cast lost it.

    A null of a field that has a default is left out, as a table can't say "missing" otherwise.
    """
    objects: list[dict[str, Any]] = [{} for _ in doubted]
    for name, source in inputs.items():
        values = proved[name].gather(doubted).to_list()
        if name in lost:
            originals = frame[source].gather(doubted).to_list()
            values = [
                o if bad else v for v, o, bad in zip(values, originals, lost[name][doubted], strict=True)
            ]
        keep_null = name in schema.required or schema.judge.null_ok(name)
        for obj, value in zip(objects, values, strict=True):
            if value is not None or keep_null:
                obj[source] = value
    return objects
