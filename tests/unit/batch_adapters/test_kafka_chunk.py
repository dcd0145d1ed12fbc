"""A chunk of a topic as one of a range: positions from its start, nothing at its end or behind."""

from __future__ import annotations

import numpy as np
import polars as pl

from batch_adapters.kafka import RangeChunk
from streamcore.batch import OFFSET, SUB, PartitionId, RecordChunk, Rejects

SOURCE = PartitionId("t", 0, "c/t")


def test_positions_count_from_the_start_and_the_end_is_cut() -> None:
    offsets = [100, 101, 105, 110]
    chunk = RecordChunk(
        SOURCE,
        offsets,
        [b"a", None, b"c", b"d"],
        first=99,
        end=120,
        keys=[b"1", b"2", b"3", b"4"],
        timestamps=np.array(offsets, np.int64),
        headers=[(("at", str(offset).encode()),) for offset in offsets],
    )
    chunk.rejects = Rejects.of(
        pl.DataFrame({OFFSET: [103, 115], SUB: [0, 0]}, schema={OFFSET: pl.Int64, SUB: pl.UInt32}),
        "read",
        "corrupt",
        "a batch",
    )
    found = RangeChunk(chunk, 90, 108)
    assert (found.first, found.end, len(found)) == (9, 18, 3)
    assert found.offsets().tolist() == [10, 11, 15]
    assert (found.values(), found.keys()) == ([b"a", None, b"c"], [b"1", b"2", b"3"])
    times = found.timestamps()
    assert times is not None
    assert times.tolist() == [100, 101, 105]
    assert found.headers(15) == (("at", b"105"),)
    assert found.original(15).data == b"c"
    assert found.rejects.frame[OFFSET].to_list() == [13]
    assert len(RangeChunk(chunk, 90, 100)) == 0
