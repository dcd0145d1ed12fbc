"""Arrow IPC streams for topics between our own topologies: a message holds many rows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.batch import Chunk, Int64s, Rejects, arrow_bytes, hide
from streamcore.contracts import Decoded, Decoder
from streamcore.errors import BadConfig
from streamcore.formats.frame import judge_frame
from streamcore.formats.rows import Subs, assemble, with_messages
from streamcore.schema import Refusal, StreamSchema


@dataclass(frozen=True, slots=True)
class Arrow:
    """One Arrow IPC stream a message; ``_sub`` is the row's place in it.

    Rows are checked like those of any other source. :meth:`encode` gives one row a message, as a sink
    to a keyed topic needs; :meth:`message` packs a whole frame into one.
    """

    @property
    def name(self) -> str:
        return "arrow"

    def decoder(self, schema: StreamSchema) -> Decoder:
        """Takes every schema."""
        return _ArrowDecoder(schema)

    def encode(self, frame: pl.DataFrame) -> pa.BinaryArray:
        """One IPC stream a row, about 20 us each."""
        return pa.array([arrow_bytes(frame[i]) for i in range(frame.height)], pa.binary())

    def message(self, frame: pl.DataFrame) -> bytes:
        """All rows of *frame* as one message."""
        return arrow_bytes(frame)


class _Run(NamedTuple):
    """Neighbouring messages of the same columns, as one frame."""

    frame: pl.DataFrame
    offsets: Int64s
    subs: Subs


@dataclass(frozen=True, slots=True)
class _ArrowDecoder:
    schema: StreamSchema

    def decode(self, chunk: Chunk) -> Decoded:
        refused: list[tuple[int, Refusal]] = []
        messages: list[tuple[int, pl.DataFrame]] = []
        for offset, value in zip(chunk.offsets().tolist(), chunk.values(), strict=True):
            frame = _read_message(value)
            if isinstance(frame, Refusal):
                refused.append((offset, frame))
            else:
                messages.append((offset, frame))
        parts = [self._decode_run(run, refused) for run in _runs(messages)]
        frames = [p.frame for p in parts] or [
            hide(pl.DataFrame(schema=self.schema.columns), np.empty(0, np.int64))
        ]
        rejects = Rejects.join([p.rejects for p in parts])
        return Decoded(pl.concat(frames), with_messages(rejects, refused) if refused else rejects)

    def _decode_run(self, run: _Run, refused: list[tuple[int, Refusal]]) -> Decoded:
        try:
            proved, places, verdicts = judge_frame(self.schema, run.frame)
        except BadConfig as error:  # what a message holds must not stop the stream
            refused += [(int(o), Refusal("columns", str(error))) for o in np.unique(run.offsets)]
            empty = hide(pl.DataFrame(schema=self.schema.columns), np.empty(0, np.int64))
            return Decoded(empty, Rejects())
        return assemble(self.schema, run.offsets, run.subs, proved, places, verdicts)


def _runs(messages: list[tuple[int, pl.DataFrame]]) -> list[_Run]:
    runs = []
    for _, group in itertools.groupby(messages, key=lambda m: tuple(m[1].schema.items())):
        offsets, frames = zip(*group, strict=True)
        heights = [f.height for f in frames]
        subs = np.concatenate([np.arange(h, dtype=np.uint32) for h in heights])
        runs.append(_Run(pl.concat(frames), np.repeat(np.array(offsets, np.int64), heights), subs))
    return runs


def _read_message(value: bytes | None) -> pl.DataFrame | Refusal:
    """pyarrow reads, since it answers a forged length with an error where polars would abort."""
    if value is None:
        return Refusal("tombstone", "the message has no value")
    try:
        with pa.ipc.open_stream(pa.py_buffer(value)) as reader:
            table = reader.read_all()
        table.validate(full=True)
        frame = pl.DataFrame(pl.from_arrow(table))
    except (pa.ArrowException, ValueError, OSError, MemoryError, pl.exceptions.PolarsError) as error:
        return Refusal("arrow", f"no readable Arrow IPC stream ({type(error).__name__})")
    return frame if frame.height else Refusal("empty", "the message holds no rows")
