"""Dead letters as records: all comes back, ids are stable, reading folds repeats, redrives are guarded."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from streamcore.batch import OFFSET, SUB, FrameChunk, PartitionId, RecordChunk, Rejects
from streamcore.contracts import Records
from streamcore.deadletter.reader import Filter, read, refused_since
from streamcore.deadletter.record import DeadLetter, Origin
from streamcore.deadletter.redrive import origins, plan, send, sent_before, unpack
from streamcore.deadletter.writer import DeadLetterWriter
from streamcore.passage import RowId
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog

SOURCE = PartitionId("users", 1, "cluster/uuid")


def chunk(first: int, values: list[bytes | None]) -> RecordChunk:
    offsets = range(first, first + len(values))
    return RecordChunk(SOURCE, offsets, values, keys=[b"k%d" % o for o in offsets])


def rejects(*ids: tuple[int, int], stage: str = "users/validate", code: str = "range") -> Rejects:
    rows = pl.DataFrame(ids, schema={OFFSET: pl.Int64, SUB: pl.UInt32}, orient="row")
    return Rejects.of(rows, stage, code, "too large")


@pytest.fixture
async def log() -> EmbeddedLog:
    broker = Broker.open("embedded://dead-letters")
    yield EmbeddedLog(broker)
    broker.close()


@pytest.fixture
async def writer(log: EmbeddedLog) -> DeadLetterWriter:
    writer = DeadLetterWriter(log, "people", "people.dead-letters", lambda: 1_700_000_000.25)
    await writer.start(2)
    return writer


async def letters(log: EmbeddedLog, only: Filter | None = None) -> list[DeadLetter]:
    return [letter async for letter in read(log, "people.dead-letters", only)]


async def test_a_letter_keeps_bytes_key_place_and_reason(log: EmbeddedLog, writer: DeadLetterWriter) -> None:
    await writer.append(
        chunk(7, [b"{}", b"\xff\x00", None]), rejects((8, 0), (9, 0)), [Origin("users")] * 2, until=10
    )
    first, second = await letters(log)
    assert first == DeadLetter(
        id="people:users/validate:cluster/uuid:1:8:0",
        stream="users",
        source=SOURCE,
        offset=8,
        sub=0,
        stage="users/validate",
        code="range",
        message="too large",
        encoding="bytes",
        attempts=1,
        time=1_700_000_000.25,
        key=b"k8",
        value=b"\xff\x00",
        row=b"",
        until=10,
        log_partition=1,
        log_offset=0,
    )
    assert second.value is None


async def test_a_row_that_never_was_bytes_is_kept_as_arrow_and_comes_back(
    log: EmbeddedLog, writer: DeadLetterWriter
) -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None]})
    rows = FrameChunk(SOURCE, np.array([10, 20]), frame, first=10, end=30)
    await writer.append(rows, rejects((20, 0)), [Origin("users")], until=30)
    found = await letters(log)
    assert found[0].encoding == "arrow"
    await send(log, "people.redrive", found, 1.0)
    (redriven,) = [c async for c in log.scan("people.redrive", 0, 0, 1)]
    ((record, what),) = unpack(redriven, set())
    assert record.frame is not None
    assert record.frame.to_dicts() == [{"a": 2, "b": None}]
    assert (what.stream, what.stage, what.sub) == ("users", "users/validate", 0)
    assert origins(redriven) == {0: Origin("users", 2, "arrow")}


async def test_reading_folds_repeats_and_filters(log: EmbeddedLog, writer: DeadLetterWriter) -> None:
    rows = chunk(0, [b"a", b"b"])
    await writer.append(rows, rejects((0, 0)), [Origin("users")], until=2)
    await writer.append(rows, rejects((0, 0), (1, 0)), [Origin("users")] * 2, until=2)
    await writer.append(rows, rejects((1, 0), stage="decode", code="json"), [Origin("users")], until=2)
    assert [(x.stage, x.offset) for x in await letters(log)] == [
        ("users/validate", 0),
        ("users/validate", 1),
        ("decode", 1),
    ]
    assert [x.code for x in await letters(log, Filter(stage="decode"))] == ["json"]
    assert await letters(log, Filter(until=1_700_000_000.0)) == []
    assert len(await letters(log, Filter(since=1_700_000_000.0, code="range"))) == 2


@pytest.mark.parametrize("position", [0, 1, 500, 6_000, 11_999, 12_000])
async def test_a_resume_finds_exactly_what_was_refused_at_or_after_its_position(
    log: EmbeddedLog, writer: DeadLetterWriter, position: int
) -> None:
    rows = chunk(0, [b"x"] * 12_000)
    refused = list(range(0, 12_000, 2))
    for first in range(0, 12_000, 1_000):
        part = [o for o in refused if first <= o < first + 1_000]
        until = first + 1_000
        await writer.append(
            rows, rejects(*((o, 0) for o in part)), [Origin("users")] * len(part), until=until
        )
    # A slow sink refuses late, and a restart repeats: neither hides what lies before it.
    await writer.append(rows, rejects((1, 0), stage="sink"), [Origin("users")], until=12_000)
    await writer.append(rows, rejects((500, 0), (502, 0)), [Origin("users")] * 2, until=12_000)
    other = RecordChunk(PartitionId("orders", 1, "y"), range(5), [b"o"] * 5)
    await writer.append(other, rejects((4, 0)), [Origin("orders")], until=5)
    found = await refused_since(log, "people.dead-letters", SOURCE, position)
    late = [RowId("sink", 1, 0)] if position <= 1 else []
    assert found == late + [RowId("users/validate", o, 0) for o in refused if o >= position]


async def test_records_of_others_in_the_topic_are_left_out(
    log: EmbeddedLog, writer: DeadLetterWriter
) -> None:
    foreign = Records(pa.array([b"x"]), np.array([1]), headers=(("sc-id", b"not ours"),))
    await (await log.append("people.dead-letters", foreign))
    assert await letters(log) == []


async def test_a_redrive_sends_each_id_once_and_leaves_what_was_tried_too_often(
    log: EmbeddedLog, writer: DeadLetterWriter
) -> None:
    rows = chunk(0, [b"a", b"b", b"c"])
    tried = [Origin("users"), Origin("users", 3), Origin("users", 2)]
    await writer.append(rows, rejects((0, 0), (1, 0), (2, 0)), tried, until=3)
    topics = ("people.dead-letters", "people.redrive")
    chosen = await plan(log, *topics, Filter(), 3)
    assert ([x.offset for x in chosen.send], chosen.sent_before, chosen.over_limit) == ([0, 2], 0, 1)
    await send(log, "people.redrive", chosen.send, 5.0)
    again = await plan(log, *topics, Filter(), 3)
    assert (again.send, again.sent_before, again.over_limit) == ((), 2, 1)


async def test_a_row_that_two_redrives_sent_enters_once_also_after_a_resume(
    log: EmbeddedLog, writer: DeadLetterWriter
) -> None:
    await writer.append(chunk(7, [b"{}"]), rejects((7, 0)), [Origin("users")], until=8)
    both = [(await plan(log, "people.dead-letters", "people.redrive", Filter(), 3)).send for _ in range(2)]
    for letters in both:
        await send(log, "people.redrive", letters, 1.0)
    (redriven,) = [found async for found in log.scan("people.redrive", 0, 0, 10)]
    assert len(unpack(redriven, set())) == 1
    assert await sent_before(log, redriven.source, 0) == set()
    (second,) = [found async for found in log.scan("people.redrive", 0, 1, 10)]
    assert unpack(second, await sent_before(log, redriven.source, 1)) == []
