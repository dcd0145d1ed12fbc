"""From what a poll found to the records of a stream's topic: nothing dropped, in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.contracts import Records
from streamcore.contracts.unbounded import Taken, UnboundedSource
from streamcore.errors import BadConfig
from streamcore.formats.json import Json
from streamcore.formats.keyed import Keyed
from streamcore.graph import Node, Source
from streamcore.runtime.feeding.records import RowMaker
from streamcore.runtime.planning import check_columns
from streamcore.schema.cast import cast_column
from streamcore.sinks.topic_records import record_keys


def check_fits(node: Node, source: UnboundedSource) -> None:
    """BadConfig when *source* has not the columns of the stream *node*, or tells of what it can't take."""
    part = node.part
    assert isinstance(part, Source)
    if source.abilities.deletes and not isinstance(part.format, Keyed):
        raise BadConfig(
            f"the source tells of rows that are gone, and {part.name!r} is a stream of rows that stay",
            where=node.where,
            got=source.uri,
            fix="declare it with topology.table(…, key=…), or leave deletes out with ops=insert,update",
        )
    _check_known(part, source)
    check_columns(part, source.columns())


def _check_known(part: Source, source: UnboundedSource) -> None:
    """BadConfig when rows that are gone can't be told by the table's key."""
    known = source.abilities.known_by
    names = part.schema.judge.names
    unknown = [key for key in part.key if not any(name in known for name in names[key])]
    if source.abilities.deletes and known and unknown:
        raise BadConfig(
            f"of a row that is gone the source does not tell the key of {part.name!r}",
            where=source.uri,
            got=", ".join(unknown),
            allowed=known,
            fix=f"declare it with key={list(known)}, or leave deletes out with ops=insert,update",
        )


class RecordMaker:
    """Makes :class:`Records` for the stream *part*, after :meth:`start`; pure, for any thread."""

    def __init__(self, part: Source) -> None:
        self._part, self._rows = part, RowMaker(part)

    async def start(self) -> None:
        """Make ready to write to the stream's topic. Raises as ``AskingFormat.prepared``."""
        await self._rows.start(self._part.topic)

    def make(self, parts: Sequence[Taken], now: int) -> Records | None:
        """The records of *parts*, written at *now* (milliseconds); None when there are none.

        A row that the stream refuses goes in as it came: the workers refuse it again, and make the dead
        letter.
        """
        made = [self._deleted(p.chunk.frame) if p.deleted else self._put(p) for p in parts]
        values = pa.concat_arrays([v for v, _ in made]) if made else pa.array([], pa.binary())
        if not len(values):
            return None
        keys = pa.concat_arrays([k for _, k in made])
        stamps = np.full(len(values), now, np.int64)
        return Records(values, stamps, keys if keys.null_count < len(keys) else None)

    def _put(self, taken: Taken) -> tuple[pa.BinaryArray, pa.BinaryArray]:
        rows = self._rows.make(taken.chunk)
        return rows.values.cast(pa.binary()), rows.keys.cast(pa.binary())

    def _deleted(self, frame: pl.DataFrame | None) -> tuple[pa.BinaryArray, pa.BinaryArray]:
        """Records without a value, by the keys of *frame*."""
        assert frame is not None
        schema = self._part.schema
        found = {
            key: next(n for n in schema.judge.names[key] if n in frame.columns) for key in self._part.key
        }
        typed = pl.DataFrame(
            [cast_column(frame[name], schema.columns[key])[0].alias(key) for key, name in found.items()]
        )
        form = self._part.format
        as_json = isinstance(form, Keyed) and form.key_format == "json"
        keys = Json().encode(typed) if as_json else record_keys(typed, self._part.key)
        return pa.nulls(frame.height, pa.binary()), keys.cast(pa.binary())
