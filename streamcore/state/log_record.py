"""Records of a log of state: rows on their way from where they were judged to where they are kept.

Each record says which positions of which upstream partition it covers, so a reader that keeps the
covered end of each partition can leave out, row by row, what it has. The row at a position is the same
whoever writes it: a record that was written twice, also by a worker that had lost the partition, or cut
elsewhere, changes nothing. That is why the log needs no transactions and no fence.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import orjson
import polars as pl

from streamcore.batch import OFFSET, TimedBatch
from streamcore.errors import Permanent
from streamcore.event_time import END

Upstream = tuple[str, int]
"""An upstream partition: topic and number."""


class Entry(NamedTuple):
    """``rows`` of ``[start, end)`` of ``upstream``, with their ``_offset``; None where there are none.

    ``watermark`` (microseconds) holds at ``end``, but in a part of a batch that is not its last one
    (``more``) it is not said yet. ``idle``: windows need not wait for this partition until
    its next record. ``definition`` names what the node computes of what.
    """

    upstream: Upstream
    start: int
    end: int
    watermark: int
    idle: bool
    definition: str
    rows: pl.DataFrame | None
    more: bool = False

    def after(self, position: int) -> pl.DataFrame | None:
        """The rows at *position* and behind it."""
        if self.rows is None or self.end <= position:
            return None
        if self.start >= position:
            return self.rows
        return self.rows.filter(pl.col(OFFSET) >= position)


def entries_of(batch: TimedBatch, definition: str) -> list[Entry]:
    """The entry that holds *batch*; where it is the last one, another says behind it that there is no more.

    So whoever reads them knows how far the times came, whatever of the upstream partitions ends last.
    """
    source, covered = batch.source, batch.range
    upstream, rows = (source.topic, source.partition), batch.frame if batch.frame.height else None
    whole = Entry(upstream, covered.start, covered.end, batch.watermark, batch.idle, definition, rows)
    if batch.watermark != END or batch.newest is None:
        return [whole]
    return [whole._replace(watermark=batch.newest), whole._replace(start=covered.end, rows=None)]


def encode(entry: Entry) -> bytes:
    """A line of JSON, then the rows as an Arrow IPC stream."""
    out = io.BytesIO()
    head = (*entry[:6], entry.more)
    out.write(orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE))
    if entry.rows is not None:
        entry.rows.write_ipc_stream(out)
    return out.getvalue()


def decode(value: bytes | None, *, heads_only: bool = False) -> Entry:
    """The entry in *value*, without its rows if only the head is asked for. Permanent when it is none."""
    try:
        head, _, body = (value or b"").partition(b"\n")
        upstream, start, end, watermark, idle, definition, more = orjson.loads(head)
        rows = pl.read_ipc_stream(io.BytesIO(body)) if body and not heads_only else None
        return Entry((upstream[0], upstream[1]), start, end, watermark, idle, definition, rows, more)
    except (ValueError, TypeError, LookupError, OSError, pl.exceptions.PolarsError) as error:
        raise Permanent(
            "a record of a log of state can't be read", fix="nothing but this topology may write its logs"
        ) from error


def pieces_of(frame: pl.DataFrame, most_bytes: int) -> Sequence[pl.DataFrame]:
    """*frame*, sorted by ``_offset``, in parts of about *most_bytes* that share no position."""
    size = int(frame.estimated_size())
    if size <= most_bytes:
        return [frame]
    offsets, count = frame[OFFSET].to_numpy(), -(-size // most_bytes)
    cuts = {int(offsets.searchsorted(offsets[frame.height * i // count])) for i in range(1, count)}
    bounds = [0, *sorted(cuts - {0}), frame.height]
    return [frame[start:end] for start, end in pairwise(bounds)]
