"""An unbounded source fed into an embedded log through faults at each step: what its suite tries."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import polars as pl

from streamcore.batch import PartitionId
from streamcore.contracts import Lane, Records
from streamcore.contracts.unbounded import Intake, Polled, UnboundedReader, UnboundedSource
from streamcore.errors import Transient
from streamcore.graph import Source
from streamcore.runtime.live.pump import Pump
from streamcore.runtime.live.records import RecordMaker
from streamcore.runtime.retry import Retries
from streamcore.topology import Topology
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog

DEADLINE = 60.0
COLUMNS = {"id": "int64", "name": "string"}


class _Faults:
    """Says at which passes of which place a fault comes: at the second, the fifth … of *fault*."""

    def __init__(self, fault: str) -> None:
        self._fault, self._passes = fault, 0

    def at(self, place: str) -> None:
        """Transient, if it is time."""
        if place == self._fault:
            self._passes += 1
            if self._passes % 3 == 2:
                raise Transient("a planted fault", where=place)


class _FaultyIntake:
    def __init__(self, intake: Intake, faults: _Faults) -> None:
        self._intake, self._faults = intake, faults

    async def open(self) -> bytes:
        return await self._intake.open()

    async def append(self, records: Records, bookmark: bytes) -> None:
        self._faults.at("before")
        await self._intake.append(records, bookmark)
        self._faults.at("behind")

    async def keep(self, bookmark: bytes) -> None:
        self._faults.at("before")
        await self._intake.keep(bookmark)
        self._faults.at("behind")

    async def close(self) -> None:
        await self._intake.close()


class _FaultyReader:
    def __init__(self, reader: UnboundedReader, faults: _Faults) -> None:
        self._reader, self._faults = reader, faults

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        found = self._reader.poll(max_bytes, now)
        if found is not None:
            self._faults.at("polling")
        return found

    def forget(self, bookmark: bytes) -> None:
        self._faults.at("forgetting")
        self._reader.forget(bookmark)

    def close(self) -> None:
        self._reader.close()


class _FaultySource:
    def __init__(self, source: UnboundedSource, faults: _Faults) -> None:
        self._source, self._faults = source, faults
        self.uri, self.abilities, self.interval = source.uri, source.abilities, 0.02

    def identity(self) -> str:
        return self._source.identity()

    def columns(self) -> pl.Schema | None:
        return self._source.columns()

    def open(self, bookmark: bytes) -> UnboundedReader:
        return _FaultyReader(self._source.open(bookmark), self._faults)


def fed(source: UnboundedSource, folder: Path, rows: int, fault: str, max_bytes: int) -> list[int]:
    """The ids in an embedded log in *folder* once *rows* rows are in it and nothing more comes."""
    return asyncio.run(_fed(source, folder, rows, _Faults(fault), max_bytes))


async def _fed(
    source: UnboundedSource, folder: Path, rows: int, faults: _Faults, max_bytes: int
) -> list[int]:
    topology = Topology("fed")
    part = topology.table("rows", COLUMNS, key="id").node.part
    assert isinstance(part, Source)
    broker = Broker.open(f"embedded://fed{folder}/log")
    broker.create("rows", 1)
    lane = Lane("fed", "feed/rows", PartitionId("rows", 0, source.identity()), "suite")
    log, stop = EmbeddedLog(broker), asyncio.Event()
    intake = _FaultyIntake(log.intake("rows", lane, lambda _: None), faults)
    with ThreadPoolExecutor(1) as executor:
        pump = Pump(
            "rows",
            _FaultySource(source, faults),
            RecordMaker(part),
            intake,
            executor,
            max_bytes=max_bytes,
            clock=time.time,
            retries=Retries(0.01, 0.02, DEADLINE),
        )
        pumping = asyncio.ensure_future(pump.run(stop))
        deadline, quiet = time.monotonic() + DEADLINE, 0
        while quiet < 3 and time.monotonic() < deadline and not pumping.done():
            before = (await log.bounds("rows"))[0].end
            await asyncio.sleep(0.05)
            quiet = quiet + 1 if (await log.bounds("rows"))[0].end == before >= rows else 0
        stop.set()
        await pumping
    found = []
    async for chunk in log.scan("rows", 0, 0, (await log.bounds("rows"))[0].end):
        found += [orjson.loads(value)["id"] for value in chunk.values() if value]
    broker.close()
    return found
