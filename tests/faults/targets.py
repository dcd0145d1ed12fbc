"""Where the rows of a fault run end, as the oracle sees it: by other means than the system's own.

A target tells the worker where to write (``kind``, ``address``), and the oracle what is there: the effects,
each the id of a row, in the order in which they took place within a key; and the position that the system
says they stand at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import asyncpg
import polars as pl
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient

from tests.faults.proxy import address_of, through
from tests.faults.rows import REFUSED_BY_A_CHECK
from tests.services.kafka_topics import committed_records, records, stored_positions

_TRANSACTION_SECONDS = 20.0
"""No transaction is open for longer."""
T = TypeVar("T")
Positions = Mapping[int, int]
"""Partition of the source -> the position before which everything has taken effect."""


class Seen(NamedTuple):
    """A look at a target: ``positions`` were read before, or together with, ``effects``."""

    positions: Positions
    effects: Sequence[str]
    exact: bool
    """Nothing past the positions may be there either: both were read in one transaction."""


class Target(Protocol):
    """See the module."""

    kind: str
    address: str
    folds: bool
    """Repeats are allowed and folded by where the rows came from."""

    async def prepare(self) -> None: ...
    async def positions(self) -> Positions: ...
    async def look(self) -> Seen: ...


@runtime_checkable
class BehindAServer(Protocol):
    """A target that workers reach by the network, and a proxy may stand between."""

    @property
    def server_address(self) -> tuple[str, int]:
        """Host and port."""
        ...

    def go_through(self, port: int) -> None:
        """Workers reach the server by a proxy at *port* of this machine."""
        ...


class AtUrl:
    """Behind a server whose address is in the URL that workers are told."""

    def __init__(self, url: str, topic: str) -> None:
        self._url, self.address, self._topic = url, url, topic

    @property
    def server_address(self) -> tuple[str, int]:
        return address_of(self._url)

    def go_through(self, port: int) -> None:
        self.address = through(self._url, port)


class PostgresTarget(AtUrl):
    """A table whose rows say who wrote them, in which order."""

    kind, folds = "postgres", False

    async def prepare(self) -> None:
        async with self._connected() as connection:
            await connection.execute(
                "create table effects (id text, key text, sequence bigint, "
                f"n bigint check (n <> {REFUSED_BY_A_CHECK}), bucket text, note text, twice bigint, "
                "place bigserial, writer text default current_setting('application_name'))"
            )

    async def positions(self) -> Positions:
        async with self._connected() as connection:
            return await self._positions(connection)

    async def look(self) -> Seen:
        async with self._connected() as connection, connection.transaction(isolation="repeatable_read"):
            positions = await self._positions(connection)
            rows = await connection.fetch("select id from effects order by place")
            return Seen(positions, [row["id"] for row in rows], exact=True)

    async def _positions(self, connection: asyncpg.Connection) -> Positions:
        if not await connection.fetchval("select to_regclass('streamcore_positions')"):
            return {}
        rows = await connection.fetch(
            "select partition, next_offset from streamcore_positions where topic = $1", self._topic
        )
        return {row["partition"]: row["next_offset"] for row in rows}

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self._url, timeout=5)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)


class FilesTarget:
    """A folder of Parquet files, and the seals beside them."""

    kind, folds = "files", False

    def __init__(self, folder: Path, topic: str) -> None:
        self.folder, self.address, self._topic = folder, str(folder), topic

    async def prepare(self) -> None:
        """The sink makes its folder."""

    async def positions(self) -> Positions:
        """Up to where rows are to be seen: between a seal and the renames they are safe, but hidden."""
        found: dict[int, int] = {}
        for chain in self.folder.glob("_seals/*/*"):
            names = sorted(path.name for path in chain.iterdir() if not path.name.startswith("."))
            if names:
                seal = json.loads((chain / names[-1]).read_text())
                if seal["topic"].startswith(self._topic):
                    shown = all((self.folder / path).exists() for path in seal["outputs"])
                    found[seal["partition"]] = seal["end"] if shown else int(names[-1].split("-")[0])
        return found

    async def look(self) -> Seen:
        positions = await self.positions()
        paths = sorted(self.folder.glob("bucket=*/*.parquet"), key=lambda path: (path.name, path.parent.name))
        frames = [pl.read_parquet(path, columns=["id"], hive_partitioning=False) for path in paths]
        return Seen(positions, pl.concat(frames)["id"].to_list() if frames else [], exact=False)

    def litter(self) -> list[Path]:
        """Hidden files, which nobody should leave behind for good."""
        return [path for path in self.folder.rglob(".*") if path.is_file()]


class TopicTarget:
    """A topic; repeats are folded by the headers that say where a row came from."""

    kind, folds = "topic", True

    def __init__(self, bootstrap: str, topic: str, group: str, source: str) -> None:
        self._bootstrap, self.address, self._group, self._source = bootstrap, topic, group, source

    async def prepare(self) -> None:
        """The topics are made all together."""

    async def positions(self) -> Positions:
        return await committed(self._bootstrap, self._group, self._source)

    async def look(self) -> Seen:
        positions = await self.positions()
        return Seen(positions, _folded(await records(self._bootstrap, self.address)), exact=False)


class ExactTopicTarget:
    """A topic that is written in transactions: what a reader of committed records sees, nothing folded."""

    kind, folds = "topic-exact", False

    def __init__(self, bootstrap: str, topic: str, topology: str, source: str) -> None:
        self._bootstrap, self.address, self._source = bootstrap, topic, source
        self._positions = f"{topology}.positions"

    async def prepare(self) -> None:
        """The topics are made all together."""

    async def positions(self) -> Positions:
        found = await stored_positions(self._bootstrap, self._positions, patience=0.1)
        return {value["partition"]: value["position"] for value in found if value["topic"] == self._source}

    async def look(self) -> Seen:
        positions = await self.positions()
        found = await committed_records(self._bootstrap, self.address, patience=_TRANSACTION_SECONDS)
        return Seen(positions, [str(json.loads(record.value)["id"]) for record in found], exact=False)


def _folded(found: Sequence[ConsumerRecord]) -> list[str]:
    """As docs/guarantees.md says: in each partition, what is above the highest place of its source."""
    highest: dict[tuple[int, bytes], bytes] = {}
    names: dict[bytes, str] = {}
    effects = []
    for record in found:
        position, name = dict(record.headers)["sc-position"], str(json.loads(record.value)["id"])
        assert names.setdefault(position, name) == name, "two rows say that they came from one place"
        source, place = (record.partition, position[:8]), position[8:]
        if place > highest.get(source, b""):
            highest[source] = place
            effects.append(name)
    return effects


async def committed(bootstrap: str, group: str, topic: str) -> Positions:
    """Where *group* stands in *topic*."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {tp.partition: c.offset for tp, c in found.items() if tp.topic == topic}


async def in_thread(look: Callable[[], T], *errors: type[Exception]) -> T:
    """What *look* gives; *errors* of a server that is away as one of those that the run knows."""
    try:
        return await asyncio.to_thread(look)
    except errors as error:
        raise ConnectionError(str(error)) from None
