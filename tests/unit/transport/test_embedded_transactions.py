"""Lanes of the embedded log: what a former owner's commit that is under way does to the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from streamcore.batch import PartitionId
from streamcore.contracts import Lane
from streamcore.errors import Fenced
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog

SOURCE = PartitionId("in", 0, "embedded/in")


async def test_who_takes_a_lane_over_waits_for_a_commit_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has passed its last check, so it counts; the next owner must not go on before it."""
    broker = Broker.open(f"embedded://lanes{tmp_path}/log")
    log = EmbeddedLog(broker)
    await log.create("out", 1, {})
    lanes = [Lane("t", "s", SOURCE, owner) for owner in ("a", "b")]
    former, heir = (log.transactions("out", lane, lambda _: None) for lane in lanes)
    assert await former.open(0) == 0
    write, writing, go_on = broker.write_commits, asyncio.Event(), asyncio.Event()

    async def slowly(group: str, committed: Mapping[PartitionId, int]) -> None:
        writing.set()
        await go_on.wait()
        await write(group, committed)

    monkeypatch.setattr(broker, "write_commits", slowly)
    committing = asyncio.ensure_future(former.commit(7))
    await writing.wait()
    opening = asyncio.ensure_future(heir.open(0))
    await asyncio.sleep(0)
    go_on.set()
    await committing
    assert await opening == 7
    with pytest.raises(Fenced):
        await former.commit(9)
    broker.close()
