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
from streamcore.runtime.sink_runner import SinkRunner, when_all_idle
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


def runner_of(writer: Given, position: int) -> SinkRunner:
    ledger = Ledger(1 << 20)
    ledger.open(SOURCE, {"log": position})
    abilities = SinkAbilities(stores_positions=True)
    return SinkRunner("log", writer, ledger, Retries(), Metrics(), "t", abilities)


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
    writer = Given()
    runner = runner_of(writer, 2)
    running = asyncio.ensure_future(runner.run())
    runner.put(batch_of(SOURCE, start, end, watermark=70))
    await runner.drain(FlushReason.IDLE)
    running.cancel()
    found = [(*batch.range, batch.watermark) for batch in writer.batches if isinstance(batch, TimedBatch)]
    assert found == given
    assert all(batch.frame.height == batch.range.end - batch.range.start for batch in writer.batches)


class Slow(Given):
    """A writer whose flushes end when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.flushes = 0
        self.may_end = asyncio.Event()

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        self.flushes += 1
        await self.may_end.wait()
        return {}


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_waits_for_sinks_is_called_when_all_have_flushed_what_they_were_given() -> None:
    writers = [Slow(), Slow()]
    runners = [runner_of(writer, 0) for writer in writers]
    called: list[str] = []
    when_all_idle(runners, lambda: called.append("nothing was given yet"))
    assert called == ["nothing was given yet"]
    for runner in runners:
        await runner.open({SOURCE: 0})
    running = [asyncio.ensure_future(runner.run()) for runner in runners]
    for runner in runners:
        runner.put(batch_of(SOURCE, 0, 3, watermark=70))
    when_all_idle(runners, lambda: called.append("all"))
    for writer in writers:
        await turns()
        assert writer.flushes == 1
        assert called == ["nothing was given yet"]
        writer.may_end.set()
    await turns()
    assert called == ["nothing was given yet", "all"]
    for task in running:
        task.cancel()


async def test_a_sink_that_sleeps_wakes_for_a_batch_and_for_pressure() -> None:
    writer = Slow()
    writer.may_end.set()
    runner = runner_of(writer, 0)
    await runner.open({SOURCE: 0})
    running = asyncio.ensure_future(runner.run())
    await turns()
    assert (writer.flushes, len(writer.batches)) == (0, 0)
    runner.press()
    await turns()
    assert writer.flushes == 1
    runner.put(batch_of(SOURCE, 0, 3, watermark=70))
    await turns()
    assert (writer.flushes, len(writer.batches)) == (2, 1)
    running.cancel()
