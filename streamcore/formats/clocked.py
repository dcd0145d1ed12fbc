"""The time of rows that no column of theirs holds: the record's time stamp, or the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamcore.asking import Asking, AskingDecoder, decoding
from streamcore.batch import OFFSET, Chunk
from streamcore.contracts import Decoded, Decoder
from streamcore.event_time import CLOCK_TYPE, TimeOf


@dataclass(frozen=True, slots=True)
class ClockedDecoder(AskingDecoder):
    """What *decoder* gives, with a column named after *time_of*; *now* gives microseconds since 1970.

    Rows of records without a time stamp (those of files) have a null record time. The clock is asked once a
    chunk, so with the processing time a chunk that is decoded again gets another one.
    """

    decoder: Decoder
    time_of: TimeOf
    now: Callable[[], int]

    def asking(self, chunk: Chunk) -> Asking[Decoded]:
        """See :class:`streamcore.asking.AskingDecoder`."""
        decoded = yield from decoding(self.decoder, chunk)
        times = self._times(chunk, decoded.frame).cast(CLOCK_TYPE).alias(self.time_of.value)
        return Decoded(decoded.frame.with_columns(times), decoded.rejects)

    def _times(self, chunk: Chunk, frame: pl.DataFrame) -> pl.Series:
        stamps = chunk.timestamps()
        if self.time_of is TimeOf.PROCESSING:
            return pl.Series(np.full(frame.height, self.now()), dtype=pl.Int64)
        if stamps is None:
            return pl.Series([None] * frame.height, dtype=pl.Int64)
        return pl.Series(stamps[chunk.index(frame[OFFSET].to_numpy())] * np.int64(1_000))
