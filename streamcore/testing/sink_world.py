"""What a sink's conformance tests stand on: targets, batches made of rows, and the world around a writer."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar, cast

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from streamcore.batch import OFFSET, SUB, Batch, PartitionId, Range, RecordChunk, Rejects, hide
from streamcore.contracts import FlushReason, Log, Sink, SinkContext, SinkWriter
from streamcore.errors import Transient

T = TypeVar("T")
LASTING = (FlushReason.END, FlushReason.REVOKE, FlushReason.PRESSURE)
"""Reasons after which everything written is durable."""
ORDERS, OTHERS = PartitionId("orders", 0, "c/1"), PartitionId("orders", 1, "c/1")
COLUMNS = pl.Schema({"id": pl.Int64, "name": pl.String, "value": pl.Float64})


class SinkTarget(Protocol):
    """A fresh, empty target, the sink that writes to it, and a way to look behind the sink's back.

    A target of a sink that writes to the worker's own log has it as ``log``, and a ``topology`` of its own.
    """

    @property
    def sink(self) -> Sink: ...

    async def start(self) -> None:
        """Called once, first: make the target ready."""
        ...

    async def rows(self) -> pl.DataFrame:
        """All visible rows in any order: exactly the columns of the suite's frame."""
        ...

    async def positions(self) -> Mapping[PartitionId, int]:
        """The stored position of each partition."""
        ...

    async def close(self) -> None:
        """Take the target away."""
        ...


class BreakableTarget(SinkTarget, Protocol):
    """A target whose connections a test can cut and restore."""

    async def cut_connections(self) -> None:
        """Cut the writer's connections; new ones work."""
        ...

    async def go_down(self) -> None:
        """Make the target unreachable, and cut what is connected."""
        ...

    async def come_back(self) -> None:
        """Make it reachable again."""
        ...


def batches_of(
    frame: pl.DataFrame, cuts: Sequence[int], source: PartitionId, *, first: int = 0, gap: int = 1
) -> list[Batch]:
    """*frame* as batches of *source*, cut before the rows *cuts*; a repeated cut makes an empty batch.

    Row *i* stands at position ``first + i * gap``, so that positions with ``gap`` > 1 have holes.
    Batch k covers the positions from its first row to the next batch's first row.
    """
    offsets = first + np.arange(frame.height, dtype=np.int64) * gap
    hidden = hide(frame, offsets)
    edges = [0, *sorted(cuts), frame.height]
    batches = []
    for low, high in itertools.pairwise(edges):
        start, end = first + low * gap, first + high * gap
        texts = [f"{source}:{offset}".encode() for offset in offsets[low:high]]
        chunk = RecordChunk(source, offsets[low:high], texts, first=start, end=end)
        batches.append(Batch(hidden[low:high], {source: Range(start, end)}, chunk))
    return batches


def empty_batch(source: PartitionId, start: int, end: int, columns: pl.Schema = COLUMNS) -> Batch:
    """A batch whose rows were all filtered out."""
    frame = hide(pl.DataFrame(schema=columns), np.array([], np.int64))
    return Batch(frame, {source: Range(start, end)}, RecordChunk(source, [], [], first=start, end=end))


class Crash(BaseException):
    """The process died here."""


@dataclass
class World:
    """What is outside of the writers of one test: clock, dead letters, crash points, the target."""

    target: SinkTarget
    columns: pl.Schema
    key: tuple[str, ...] = ()
    now: float = 1_700_000_000.0
    memory_limit: int = 64_000_000
    refused: Counter[tuple[PartitionId, int, int]] = field(default_factory=Counter)
    codes: set[str] = field(default_factory=set)
    passed: list[str] = field(default_factory=list)
    crash_at: int = 0
    writers: list[SinkWriter] = field(default_factory=list)

    def context(self, owner: str) -> SinkContext:
        async def refuse(batch: Batch, rejects: Rejects) -> None:
            for offset, sub, code in rejects.frame.select(OFFSET, SUB, "code").iter_rows():
                assert batch.range.start <= offset < batch.range.end, "refused rows must be of the batch"
                assert batch.chunk.original(offset).data is not None
                self.refused[(batch.source, offset, sub)] += 1
                self.codes.add(code)
            assert set(rejects.frame["stage"]) <= {self.target.sink.name}, "stage is the sink's name"

        def crash_point(name: str) -> None:
            self.passed.append(name)
            if self.crash_at and len(self.passed) == self.crash_at:
                raise Crash(name)

        return SinkContext(
            topology=getattr(self.target, "topology", "conformance"),
            sink=self.target.sink.name,
            columns=self.columns,
            key=self.key,
            event_time=None,
            clock=lambda: self.now,
            owner=owner,
            refuse=refuse,
            memory_limit=self.memory_limit,
            crash_point=crash_point,
            log=getattr(self.target, "log", cast(Log, None)),  # any use of none fails
        )

    async def writer(self, owner: str = "worker-1") -> SinkWriter:
        """A started writer, as one more process."""
        writer = self.target.sink.writer(self.context(owner))
        self.writers.append(writer)
        await writer.start()
        return writer


def frame_of(ids: Sequence[int]) -> pl.DataFrame:
    """Rows in :data:`COLUMNS`, told apart by their id."""
    return pl.DataFrame(
        {
            "id": list(ids),
            "name": [f"name {i}" if i % 5 else None for i in ids],
            "value": [i / 3 for i in ids],
        },
        schema=COLUMNS,
    )


def assert_same_rows(got: pl.DataFrame, wanted: pl.DataFrame) -> None:
    """Equal as multisets of rows, NaN equal to NaN."""
    assert sorted(got["id"].to_list()) == sorted(wanted["id"].to_list())
    assert_frame_equal(got.select(wanted.columns).sort("id"), wanted.sort("id"), check_exact=True)


async def deliver(writer: SinkWriter, batches: Sequence[Batch], then: FlushReason | None = None) -> None:
    """Write *batches* one by one and flush if a reason is given."""
    for batch in batches:
        await writer.write(batch)
    if then is not None:
        await writer.flush(then)


class Suite:
    """Base of the suites: makes a fresh target for each test and takes it away."""

    columns: pl.Schema = COLUMNS
    key: tuple[str, ...] = ()

    def target(self) -> SinkTarget:
        """A fresh target; called once or more a test."""
        raise NotImplementedError

    def run(self, test: Callable[[World], Awaitable[T]], **options: object) -> T:
        """Run *test* on a fresh target and take everything away afterwards.

        *options*: arguments that the sink, a dataclass which is the target's attribute, has besides.
        """

        async def body() -> T:
            world = World(self.target(), self.columns, self.key)
            if options:
                world.target.sink = replace(world.target.sink, **options)  # type: ignore[misc, type-var]
            await world.target.start()
            try:
                return await test(world)
            finally:
                for writer in world.writers:
                    await writer.close()
                await world.target.close()

        return asyncio.run(body())


async def until_done(call: Callable[[], Awaitable[T]], attempts: int = 200) -> T:
    """What the runtime does about Transient, without its back-off."""
    for _ in range(attempts):
        try:
            return await call()
        except Transient:
            await asyncio.sleep(0.02)
    return await call()
