"""Conformance suite of sinks: one named test for each sentence of ``contracts.Sink`` and ``SinkWriter``.

A sink's test module subclasses the suites that fit its abilities and says how to make a fresh target::

    class TestParquet(SinkConformance):
        def target(self) -> SinkTarget:
            return ParquetTarget(tempfile.mkdtemp())

:class:`SinkConformance` is for every sink that stores positions; :class:`RefusingSinkConformance`
for sinks whose target refuses single rows; :class:`BreakableSinkConformance` for sinks behind a
connection; :class:`UpsertSinkConformance` for sinks with a key, and :class:`MergeSinkConformance` for those
which refine what it does. The tests look at the target behind
the sink's back, and a crash is an exception at a crash point after which the writer is never
called again, though it still holds all that it had open, as a zombie does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress

import polars as pl
import pytest

from streamcore.contracts import FlushReason, Sink
from streamcore.errors import BadConfig, StreamcoreError
from streamcore.testing.sink_abilities import (
    BreakableSinkConformance,
    RefusingSinkConformance,
    UpsertSinkConformance,
)
from streamcore.testing.sink_crashes import CrashLaws
from streamcore.testing.sink_merges import MergeSinkConformance
from streamcore.testing.sink_positions import PositionLaws
from streamcore.testing.sink_world import (
    COLUMNS,
    LASTING,
    ORDERS,
    OTHERS,
    BreakableTarget,
    Crash,
    SinkTarget,
    World,
    assert_same_rows,
    batches_of,
    deliver,
    empty_batch,
    frame_of,
)

__all__ = [
    "BreakableSinkConformance",
    "BreakableTarget",
    "MergeSinkConformance",
    "RefusingSinkConformance",
    "SinkConformance",
    "SinkTarget",
    "UpsertSinkConformance",
    "World",
    "batches_of",
    "empty_batch",
    "frame_of",
]

AWKWARD_TEXTS = (
    "", " ", "a,b;c\td", 'say "hi"', "it's", '"; DROP TABLE x; --', "../../etc/passwd", "%2e%2e/",
    "line\nfeed\r\n", "\\N", "\\", "null", "NaN", "naïve ☃ 𝄞 \u202e", "\ufeff",
    "x" * 1_000_000, "{}", "${env:HOME}",
)  # fmt: skip


class SinkConformance(PositionLaws, CrashLaws):
    """The laws of every sink that stores its positions."""

    def awkward(self) -> pl.DataFrame:
        """Rows with awkward values, in :data:`COLUMNS`; a subclass may change what its target can't hold."""
        texts: list[str | None] = [*AWKWARD_TEXTS, None]
        values = [float("nan"), float("inf"), float("-inf"), None, -0.0, 5e-324, 1.7976931348623157e308]
        return pl.DataFrame(
            {
                "id": [-(2**63), 2**63 - 1, *range(len(texts) - 2)],
                "name": texts,
                "value": (values * len(texts))[: len(texts)],
            },
            schema=COLUMNS,
        )

    def read_back(self, frame: pl.DataFrame) -> pl.DataFrame:
        """How *frame* looks in the target: itself, unless the format says otherwise."""
        return frame

    def every_type(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """Types which the sink says it can hold, by a column name each."""
        raise NotImplementedError

    def no_type(self) -> pl.DataType | type[pl.DataType]:
        """A type which the sink can't hold."""
        return pl.Object

    # ---- descriptions

    def test_its_name_is_stable_and_its_abilities_say_that_it_stores_positions(self) -> None:
        async def test(world: World) -> None:
            sink = world.target.sink
            assert sink.name
            assert sink.name == sink.name.strip()
            assert sink.abilities.stores_positions
            assert isinstance(sink, Sink)

        self.run(test)

    def test_check_takes_every_type_it_can_hold_and_names_the_column_it_cannot(self) -> None:
        async def test(world: World) -> None:
            sink = world.target.sink
            sink.check(pl.Schema({**self.columns, **self.every_type()}))
            with pytest.raises(BadConfig, match="awkward column"):
                sink.check(pl.Schema({**self.columns, "awkward column": self.no_type()}))

        self.run(test)

    def test_making_a_writer_does_no_io(self) -> None:
        async def test(world: World) -> None:
            before = _open_files()
            world.target.sink.writer(world.context("idle"))
            assert _open_files() == before
            assert (await world.target.rows()).is_empty()

        self.run(test)

    # ---- durability

    @pytest.mark.parametrize("reason", LASTING)
    def test_all_that_was_written_is_durable_after(self, reason: FlushReason) -> None:
        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0, OTHERS: 3})
            await deliver(writer, batches_of(frame_of(range(20)), [1, 9, 9], ORDERS))
            assert await writer.flush(reason) == {ORDERS: 20, OTHERS: 3}
            assert await world.target.positions() == {ORDERS: 20, OTHERS: 3}
            assert_same_rows(await world.target.rows(), frame_of(range(20)))

        self.run(test)

    @pytest.mark.parametrize("reason", list(FlushReason))
    def test_what_flush_returns_is_visible_and_stored(self, reason: FlushReason) -> None:
        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            for batch in batches_of(frame_of(range(30)), [5, 10, 15, 20, 25], ORDERS):
                await writer.write(batch)
                world.now += 31
                confirmed = (await writer.flush(reason))[ORDERS]
                stored = (await world.target.positions())[ORDERS]
                rows = await world.target.rows()
                assert confirmed <= stored, "more may be confirmed by and by, less never"
                assert_same_rows(rows.filter(pl.col("id") < stored), frame_of(range(stored)))
                assert reason not in LASTING or confirmed == stored == rows.height

        self.run(test)

    def test_close_does_not_flush(self) -> None:
        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            await deliver(writer, batches_of(frame_of(range(3)), [], ORDERS))
            stored, rows = await world.target.positions(), await world.target.rows()
            await writer.close()
            world.writers.clear()
            assert await world.target.positions() == stored
            assert_same_rows(await world.target.rows(), rows)

        self.run(test)

    def test_memory_stays_bounded_without_a_flush(self) -> None:
        async def test(world: World) -> None:
            world.memory_limit = 20_000
            writer = await world.writer()
            await writer.open({ORDERS: 0, OTHERS: 0})
            for at in range(0, 4000, 250):
                await deliver(writer, batches_of(frame_of(range(at, at + 250)), [], ORDERS, first=at))
                ids = range(10_000 + at, 10_250 + at)
                await deliver(writer, batches_of(frame_of(ids), [], OTHERS, first=at))
            written = (await world.target.rows()).height
            assert written >= 8000 - 2000, "a writer over its memory limit writes by itself"
            await writer.flush(FlushReason.END)
            assert_same_rows(await world.target.rows(), frame_of([*range(4000), *range(10_000, 14_000)]))

        self.run(test)

    # ---- values

    def test_awkward_values_arrive_as_they_are(self) -> None:
        async def test(world: World) -> None:
            frame = self.awkward()
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            await deliver(writer, batches_of(frame, [3, 8], ORDERS))
            await writer.flush(FlushReason.END)
            assert not world.refused
            assert_same_rows(await world.target.rows(), self.read_back(frame))

        self.run(test)

    def test_close_frees_what_was_opened_also_after_errors(self) -> None:
        async def life(world: World) -> None:
            writer = await world.writer()
            where = (await writer.open({ORDERS: 0}))[ORDERS]
            await deliver(writer, batches_of(frame_of(range(where, where + 3)), [], ORDERS, first=where))
            world.passed.clear()
            world.crash_at = 1
            with suppress(Crash):
                await writer.flush(FlushReason.END)
            with pytest.raises(StreamcoreError):
                await deliver(writer, batches_of(frame_of(range(9)), [], ORDERS, first=10**9))
            await world.writers.pop().close()
            world.crash_at = 0

        async def test(world: World) -> None:
            await life(world)
            before = await _settled_open_files()
            for _ in range(3):
                await life(world)
            assert await _settled_open_files(before) <= before

        self.run(test)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _settled_open_files(most: int = 0) -> int:
    """When at most *most* or not changing any more: connections close on later turns of the loop."""
    now = _open_files()
    for _ in range(100):
        await asyncio.sleep(0.05)
        before, now = now, _open_files()
        if now <= most or (not most and now == before):
            break
    return now
