"""A pump into an intake whose replies are lost."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest

import streamcore as sc
from streamcore.batch import PartitionId, RecordChunk
from streamcore.contracts import Lane, Records
from streamcore.contracts.unbounded import Intake, Polled, Taken, UnboundedAbilities
from streamcore.errors import Transient
from streamcore.graph import Source
from streamcore.runtime.live.pump import Pump
from streamcore.runtime.live.records import RecordMaker
from streamcore.runtime.retry import Retries
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog

SOURCE = PartitionId("rows", 0, "rows")


class OnePage:
    """A source, and its own reader, of two rows that come in one page."""

    uri, interval = "memory:", 0.01
    abilities = UnboundedAbilities()

    def __init__(self) -> None:
        self.caught_up, self._bookmark = False, b""

    def identity(self) -> str:
        return "rows"

    def columns(self) -> pl.Schema | None:
        return None

    def open(self, bookmark: bytes) -> OnePage:
        self._bookmark = bookmark
        return self

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        self.caught_up = self._bookmark == b"end"
        if self.caught_up:
            return None
        self._bookmark = b"end"
        return Polled(b"end", (Taken(RecordChunk(SOURCE, np.arange(2), [b'{"id": 0}', b'{"id": 1}'])),))

    def forget(self, bookmark: bytes) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


class Deaf:
    """An intake of which the replies to *lost* do not arrive the first time."""

    def __init__(self, intake: Intake, lost: set[str]) -> None:
        self._intake, self._lost = intake, lost

    async def open(self) -> bytes:
        return await self._intake.open()

    async def append(self, records: Records, bookmark: bytes) -> None:
        await self._intake.append(records, bookmark)
        self._lose("append")

    async def keep(self, bookmark: bytes) -> None:
        await self._intake.keep(bookmark)
        self._lose("keep")

    async def close(self) -> None:
        await self._intake.close()

    def _lose(self, what: str) -> None:
        if what in self._lost:
            self._lost.remove(what)
            raise Transient("the reply was lost", where=what)


@pytest.mark.parametrize("lost", [set(), {"append"}, {"keep"}, {"append", "keep"}], ids=sorted)
async def test_all_rows_are_read_once_more_and_only_once(lost: set[str]) -> None:
    """The last page has the bookmark of before, so it can't be the bookmark alone that tells of an append."""
    part = sc.Topology("people").stream("rows", {"id": "int64"}).node.part
    assert isinstance(part, Source)
    maker = RecordMaker(part)
    broker = Broker.open(f"embedded://pump-{'-'.join(sorted(lost))}")
    broker.create("rows", 1)
    log = EmbeddedLog(broker)
    with ThreadPoolExecutor(1) as executor:
        for again in (False, True):
            intake = log.intake("rows", Lane("t", "feed/rows", SOURCE, "me"), lambda _: None)
            pump = Pump(
                "rows",
                OnePage(),
                maker,
                Deaf(intake, set(lost)),
                executor,
                max_bytes=1 << 20,
                clock=time.time,
                retries=Retries(initial=0.01, give_up_after=10),
                once=True,
                again=again,
            )
            await asyncio.wait_for(pump.run(asyncio.Event()), 20)
    assert (await log.bounds("rows"))[0].end == 4
    broker.close()
