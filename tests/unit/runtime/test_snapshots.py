"""What is copied behind a snapshot: the state as it is when the snapshot's own records have been read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from streamcore.contracts import Records
from streamcore.runtime.snapshots import Snapshots
from streamcore.runtime.state_copies import Copies
from streamcore.state.snapshot import is_snapshot
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.unit.runtime.test_resuming import LOG, SOURCE, begun, chunk, entry, kept


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    broker = Broker.open(f"embedded://{tmp_path.name}")
    made = EmbeddedLog(broker)
    await made.create(SOURCE.topic, 1, {})
    entries = Records(pa.array([entry(number) for number in range(4)], pa.binary()), np.zeros(4, np.int64))
    await (await made.append(SOURCE.topic, entries))
    yield made
    broker.close()


async def turns(snapshots: Snapshots, settled: int) -> None:
    """Until what is being written is written, and what *settled* allows is done."""
    for one in [*snapshots._written.values(), *snapshots._copied.values()]:
        await asyncio.wait([one.writing])
    await snapshots.trim(SOURCE, settled)


async def test_a_copy_is_taken_behind_the_snapshot_and_seen_when_all_sinks_have_it(
    log: EmbeddedLog, tmp_path: Path
) -> None:
    copies = Copies(tmp_path / "copies")
    snapshots, state = Snapshots(log, 0, lambda: 0.0, copies), begun(kept(end=4))
    list(state.on_chunk(chunk(0, 4)))
    state.since_snapshot = 1 << 30
    snapshots.look(SOURCE, state, 4)
    await turns(snapshots, 4)
    written = [value async for part in log.scan(SOURCE.topic, 0, 4, 1 << 30) for value in part.values()]
    assert all(map(is_snapshot, written))
    end = 4 + len(written)
    snapshots.look(SOURCE, state, end - 1)  # some of the snapshot is still to be read
    assert not snapshots._copied
    list(state.on_chunk(chunk(4, 6)))
    snapshots.look(SOURCE, state, end + 2)
    await turns(snapshots, end + 1)
    assert copies.find(SOURCE, LOG.definition) is None  # a sink lacks something still
    assert (await log.bounds(SOURCE.topic))[0].start == 0  # no copy before it must lose what follows it
    await turns(snapshots, end + 2)
    assert (await log.bounds(SOURCE.topic))[0].start == 4
    found = copies.find(SOURCE, LOG.definition)
    assert found is not None
    assert (found.as_of, found.emitted) == (end + 2, 6)
    assert len(list(found.records())) > 1


async def test_a_copy_that_is_broken_off_leaves_nothing(log: EmbeddedLog, tmp_path: Path) -> None:
    snapshots, state = Snapshots(log, 0, lambda: 0.0, Copies(tmp_path / "copies")), begun(kept(end=4))
    list(state.on_chunk(chunk(0, 4)))
    state.since_snapshot = 1 << 30
    snapshots.look(SOURCE, state, 4)
    await turns(snapshots, 4)
    snapshots.look(SOURCE, state, 1 << 20)
    await snapshots.stop()
    assert not [path for path in (tmp_path / "copies").rglob("*") if path.is_file()]


async def test_without_copies_there_are_none(log: EmbeddedLog) -> None:
    snapshots, state = Snapshots(log, 0, lambda: 0.0), begun(kept(end=4))
    list(state.on_chunk(chunk(0, 4)))
    state.since_snapshot = 1 << 30
    snapshots.look(SOURCE, state, 4)
    await turns(snapshots, 4)
    assert (await log.bounds(SOURCE.topic))[0].start == 4
    snapshots.look(SOURCE, state, 1 << 20)
    assert not snapshots._copied
    await snapshots.stop()


async def test_no_snapshot_is_written_while_the_log_may_hold_a_later_one(log: EmbeddedLog) -> None:
    """Readers take the first whole one in the log, and it must not be of behind the other (seed 18729)."""
    snapshots, state = Snapshots(log, 0, lambda: 0.0), begun(kept(end=6))
    list(state.on_chunk(chunk(0, 4)))
    state.since_snapshot = 1 << 30
    snapshots.look(SOURCE, state, 4)
    assert not snapshots._written
    list(state.on_chunk(chunk(4, 6)))
    snapshots.look(SOURCE, state, 6)
    assert snapshots._written
    await snapshots.stop()
