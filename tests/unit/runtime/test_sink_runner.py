"""What of a batch a sink is given at a take-over, when it has a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from streamcore.batch import Batch, PartitionId, TimedBatch
from streamcore.contracts import FlushReason, SinkAbilities
from streamcore.observability.metrics import Metrics
from streamcore.runtime.ledger import Ledger
from streamcore.runtime.retry import Retries
from streamcore.runtime.sink_runner import SinkRunner
from tests.unit.runtime.test_state_logs import batch_of

SOURCE = PartitionId("t/inner", 1, "t/inner")


class Given:
    """A writer that keeps what it is given, and confirms nothing."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    async def start(self) -> None: ...

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        return partitions

    async def write(self, batch: Batch) -> None:
        self.batches.append(batch)

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        return {}

    async def release(self, partitions: Sequence[PartitionId]) -> None: ...
    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("start", "end", "given"),
    [
        (0, 2, [(2, 2, 70)]),  # its rows are there; a batch of none may have told the watermark, and was lost
        (2, 2, [(2, 2, 70)]),
        (0, 1, []),
        (1, 4, [(2, 4, 70)]),
        (2, 4, [(2, 4, 70)]),
    ],
)
async def test_a_log_that_has_the_rows_is_told_the_watermark_behind_them(
    start: int, end: int, given: list[tuple[int, int, int]]
) -> None:
    ledger, writer = Ledger(1 << 20), Given()
    ledger.open(SOURCE, {"log": 2})
    runner = SinkRunner(
        "log", writer, ledger, Retries(), Metrics(), "t", SinkAbilities(stores_positions=True)
    )
    running = asyncio.ensure_future(runner.run())
    runner.put(batch_of(SOURCE, start, end, watermark=70))
    await runner.drain(FlushReason.IDLE)
    running.cancel()
    found = [(*batch.range, batch.watermark) for batch in writer.batches if isinstance(batch, TimedBatch)]
    assert found == given
    assert all(batch.frame.height == batch.range.end - batch.range.start for batch in writer.batches)
