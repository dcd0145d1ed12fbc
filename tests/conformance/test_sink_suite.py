"""The sink suite itself: a right sink passes every law, and each seeded mistake is caught by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import pytest

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import FlushReason, SinkAbilities, SinkContext, SinkWriter
from streamcore.errors import BadConfig, Fenced, Permanent, StreamcoreError
from streamcore.testing.sink_world import COLUMNS
from streamcore.testing.sinks import SinkConformance, SinkTarget

Row = tuple[object, ...]
MISTAKES = {
    "commit before write": "crashes_and_other_cuts",
    "write before commit": "crashes_and_other_cuts",
    "no fence": "former_owner_cannot_write",
    "fence at the next commit only": "former_owner_cannot_write",
    "confirms what it holds": "what_flush_returns",
    "takes gaps": "contiguous",
    "forgets the start": "open_gives_the_start",
    "flushes on close": "close_does_not_flush",
    "skips empty batches": "empty_batches",
    "one position for all": "partitions_are_independent",
    "ignores the topic id": "topic_id_tells",
    "no memory limit": "memory_stays_bounded",
    "cuts texts": "awkward_values",
}


@dataclass
class MemorySink:
    """Rows and positions in a Python object; ``mistake`` names what it does wrong."""

    mistake: str = ""
    name: str = "memory"
    abilities: SinkAbilities = field(default=SinkAbilities(stores_positions=True))
    rows: list[Row] = field(default_factory=list)
    positions: dict[PartitionId, int] = field(default_factory=dict)
    epochs: dict[PartitionId, int] = field(default_factory=dict)

    def check(self, columns: pl.Schema) -> None:
        for name, dtype in columns.items():
            if dtype == pl.Object:
                raise BadConfig(f"can't hold {name!r}")

    def writer(self, context: SinkContext) -> SinkWriter:
        return MemoryWriter(self, context)


class MemoryWriter:
    def __init__(self, sink: MemorySink, context: SinkContext) -> None:
        self._sink, self._context, self._mistake = sink, context, sink.mistake
        self._held: dict[PartitionId, list[Batch]] = {}
        self._ends: dict[PartitionId, int] = {}
        self._epochs: dict[PartitionId, int] = {}

    def _key(self, partition: PartitionId) -> PartitionId:
        if self._mistake == "one position for all":
            return partition._replace(partition=0)
        return partition._replace(topic_id="") if self._mistake == "ignores the topic id" else partition

    async def start(self) -> None:
        pass

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        for partition, start in partitions.items():
            key = self._key(partition)
            if self._mistake != "forgets the start":
                self._sink.positions.setdefault(key, start)
            self._ends[partition] = self._sink.positions.get(key, start)
            self._epochs[partition] = self._sink.epochs[key] = self._sink.epochs.get(key, 0) + 1
            self._held[partition] = []
        return {partition: self._ends[partition] for partition in partitions}

    async def write(self, batch: Batch) -> None:
        if self._ends.get(batch.source) != batch.range.start and self._mistake != "takes gaps":
            raise Permanent("a gap")
        if self._mistake == "skips empty batches" and not len(batch):
            self._ends[batch.source] = batch.range.end
            return
        held = sum(len(b) for batches in self._held.values() for b in batches)
        if held * 40 > self._context.memory_limit and self._mistake != "no memory limit":
            await self.flush(FlushReason.PRESSURE)
        self._held[batch.source].append(batch)
        self._ends[batch.source] = batch.range.end

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        if self._mistake == "confirms what it holds" and reason is FlushReason.IDLE:
            return dict(self._ends)
        for partition, batches in self._held.items():
            if batches:
                self._commit(partition, batches)
                batches.clear()
        return {partition: self._sink.positions[self._key(partition)] for partition in self._held}

    def _commit(self, partition: PartitionId, batches: list[Batch]) -> None:
        sink, key, end = self._sink, self._key(partition), batches[-1].range.end
        self._context.crash_point("memory.before")
        fenced = sink.epochs[key] != self._epochs[partition]
        if self._mistake == "fence at the next commit only":
            fenced = fenced and sink.positions[key] != batches[0].range.start
        if fenced and self._mistake != "no fence":
            raise Fenced("another owner")
        rows = [row for batch in batches for row in batch.rows.iter_rows()]
        if self._mistake == "cuts texts":
            rows = [(row[0], row[1] and str(row[1])[:1000], row[2]) for row in rows]
        if self._mistake == "commit before write":
            sink.positions[key] = end
            self._context.crash_point("memory.between")
        sink.rows += rows
        if self._mistake == "write before commit":
            self._context.crash_point("memory.between")
        sink.positions[key] = end
        self._context.crash_point("memory.after")

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        for partition in partitions:
            self._held.pop(partition, None)

    async def close(self) -> None:
        if self._mistake == "flushes on close":
            await self.flush(FlushReason.END)


class MemoryTarget:
    def __init__(self, mistake: str = "") -> None:
        self.sink = MemorySink(mistake)

    async def start(self) -> None:
        pass

    async def rows(self) -> pl.DataFrame:
        return pl.DataFrame(self.sink.rows, schema=COLUMNS, orient="row")

    async def positions(self) -> Mapping[PartitionId, int]:
        return dict(self.sink.positions)

    async def close(self) -> None:
        pass


class TestRightSink(SinkConformance):
    def target(self) -> SinkTarget:
        return MemoryTarget()

    def every_type(self) -> Mapping[str, type[pl.DataType]]:
        return {"text": pl.String}


@pytest.mark.parametrize(("mistake", "law"), MISTAKES.items())
def test_a_seeded_mistake_is_caught(mistake: str, law: str) -> None:
    class Seeded(TestRightSink):
        def target(self) -> SinkTarget:
            return MemoryTarget(mistake)

    (name,) = [name for name in dir(Seeded) if law in name and name.startswith("test_")]
    test: Callable[..., None] = getattr(Seeded(), name)
    marks = getattr(test, "pytestmark", [])
    arguments = [mark.args for mark in marks if mark.name == "parametrize"]
    cases = [{arguments[0][0]: value} for value in arguments[0][1]] if arguments else [{}]
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        _run_all(test, cases)
    errors = getattr(caught.value, "exceptions", [caught.value])  # hypothesis groups them
    by_a_law = (AssertionError, pytest.fail.Exception, StreamcoreError)
    assert all(isinstance(error, by_a_law) for error in errors), "caught, but by an accident"


def _run_all(test: Callable[..., None], cases: list[dict[str, object]]) -> None:
    for case in cases:
        test(**case)
