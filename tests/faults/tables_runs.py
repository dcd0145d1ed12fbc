"""Fault runs with a table, joins and a lookup: what was fed is read from its log, the oracle judges by it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import polars as pl

from tests.faults.embedded_run import FILES, EmbeddedRun
from tests.faults.feed import make_topics
from tests.faults.journal import Produced, dead_differ, digest_of, read
from tests.faults.run import AWAY, Invalid, Run
from tests.faults.tables_oracle import COLUMNS, LABELS, TABLES, TablesMaker, There, wanted_of
from tests.faults.targets import ExactTopicTarget, FilesTarget, Positions, PostgresTarget
from tests.services.kafka_topics import committed_records, records, stored_positions

TOPOLOGY = "tests/faults/tables_topology.py"
_PATIENCE = 20.0
_TYPES = {"counted": "bigint", "total": "bigint", "version": "bigint"}


class TablesSeen(NamedTuple):
    """A look. ``repeats`` are updates of a table that came twice, or out of order."""

    positions: Positions
    there: There
    repeats: Sequence[str] = ()

    @property
    def effects(self) -> Sequence[object]:
        """Everything that is there, to see whether a look differs from another."""
        return [(sink, row) for sink, rows in self.there.items() for row in rows]


class TablesPostgres(PostgresTarget):
    """A table for each sink, and the one that is looked up."""

    async def prepare(self) -> None:
        async with self._connected() as connection:
            for sink, columns in COLUMNS.items():
                typed = [f"{column} {_TYPES.get(column, 'text')}" for column in columns]
                last = "primary key (shop)" if sink in TABLES else "place bigserial"
                await connection.execute(f"create table {sink} ({', '.join([*typed, last])})")
            await connection.execute("create table labels (deal text primary key, label text)")
            await connection.executemany("insert into labels values ($1, $2)", LABELS.items())

    async def look(self) -> TablesSeen:  # type: ignore[override]
        async with self._connected() as connection, connection.transaction(isolation="repeatable_read"):
            there = {}
            for sink, columns in COLUMNS.items():
                rows = await connection.fetch(f"select {', '.join(columns)} from {sink}")
                there[sink] = [tuple(row) for row in rows]
            return TablesSeen(await self._positions(connection), there)


class TablesTopics(ExactTopicTarget):
    """A topic for each sink, written in transactions; of a table the changelog, with tombstones."""

    async def prepare(self) -> None:
        await make_topics(self._bootstrap, *(f"{self.address}-{sink}" for sink in COLUMNS))

    async def positions(self) -> Positions:
        found = await stored_positions(self._bootstrap, self._positions, patience=0.1)
        mine = [v for v in found if v["sink"] == "found" and v["topic"] == self._source]
        return {value["partition"]: value["position"] for value in mine}

    async def look(self) -> TablesSeen:  # type: ignore[override]
        positions, there, repeats = await self.positions(), dict[str, list[tuple[Any, ...]]](), list[str]()
        for sink, columns in COLUMNS.items():
            found = await committed_records(self._bootstrap, f"{self.address}-{sink}", _PATIENCE)
            rows = [(record.key, json.loads(record.value or b"null")) for record in found]
            if sink in TABLES:
                repeats += update_repeats(sink, rows)
                rows = [(key, row) for key, row in dict(rows).items() if row is not None]
            there[sink] = [tuple(row[column] for column in columns) for _, row in rows]
        return TablesSeen(positions, there, repeats)


def update_repeats(sink: str, updates: Iterable[tuple[bytes, Mapping[str, Any] | None]]) -> list[str]:
    """Each update of a key counts more rows than the one before it."""
    counted: dict[bytes, int] = {}
    wrong = []
    for key, row in updates:
        if row is not None:
            wrong += (
                [f"{sink}: an update came again: {key!r}"] if row["counted"] <= counted.get(key, 0) else []
            )
            counted[key] = row["counted"]
    return wrong[:1]


class TablesFiles(FilesTarget):
    """A folder of files for each sink; of a table its changelog."""

    async def positions(self) -> Positions:
        """How far each of the sinks has come, all together: it grows with each seal."""
        parts = [FilesTarget(self.folder / sink, "") for sink in COLUMNS]
        return {number: sum((await part.positions()).values()) for number, part in enumerate(parts)}

    async def look(self) -> TablesSeen:  # type: ignore[override]
        there, repeats = dict[str, list[tuple[Any, ...]]](), list[str]()
        for sink, columns in COLUMNS.items():
            rows = [row for path in (self.folder / sink).glob("*.parquet") for row in _rows_of(path)]
            if sink in TABLES:
                numbers = [(row["shop"], row["number"]) for row in rows]
                repeats += [f"{sink}: an update came again"] if len(set(numbers)) < len(numbers) else []
                newest = {row["shop"]: row for row in sorted(rows, key=lambda row: row["number"])}
                rows = [row for row in newest.values() if row["op"] == "upsert"]
            there[sink] = [tuple(row[column] for column in columns) for row in rows]
        return TablesSeen(await self.positions(), there, repeats)


def _rows_of(path: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(path, hive_partitioning=False).to_dicts()


class TablesRun(Run):
    """From a topic by a table, two joins and a lookup to tables of PostgreSQL, or topics in transactions."""

    topology, rate = TOPOLOGY, 80
    maker: TablesMaker
    target: TablesPostgres | TablesTopics
    _looks: list[TablesSeen]

    def _target(self) -> TablesPostgres | TablesTopics:
        if self._sink == "topic-exact":
            (self._folder / "labels.csv").write_text(_labels())
            return TablesTopics(self.servers.kafka.bootstrap, f"{self.name}.out", self.name, self.topic)
        assert self.servers.postgres is not None
        return TablesPostgres(self.servers.postgres.fresh_database(), self.topic)

    def _maker(self) -> TablesMaker:
        return TablesMaker(self.dice)

    def _environment(self) -> Mapping[str, str]:
        return {"SC_FAULT_LABELS": str(self._folder / "labels.csv")}

    def _caught_up(self) -> Callable[[], Awaitable[bool]]:
        """All pairs and orders of the rows that were acknowledged, and a table that has counted them."""
        acknowledged = [self.maker.effects[name] for name in self.feed.places.keys() & self.maker.effects]
        wanted, passed = wanted_of({0: acknowledged}), super()._caught_up()

        async def caught_up() -> bool:
            try:
                there = (await self.target.look()).there if await passed() else None
            except AWAY:
                return False
            return (
                there is not None
                and wanted.pairs <= set(there["pairs"])
                and wanted.orders.keys() <= {order for order, _ in there["priced"]}
                and len(acknowledged) <= sum(counted for _, counted, _ in there["totals"])
            )

        return caught_up

    async def _judge(self) -> None:
        produced, values = self.feed.produced(), dict[int, list[bytes]]()
        for record in await records(self.servers.kafka.bootstrap, self.topic):
            values.setdefault(record.partition, []).append(record.value)
        rows, doomed = _fed(produced, values)
        wanted, seen = wanted_of(rows), await self.look()
        self.outcome.rows = len(produced.confirmed)
        self.outcome.wrong += wanted.broken(seen.there) + dead_differ(doomed, await self._dead(produced))
        self._judge_positions(seen.positions)
        for look in self._looks:
            self.outcome.wrong += look.repeats
            self.outcome.wrong += [f"in a look: {x}" for x in wanted.broken(look.there, whole=False)]
            passed = {name for name, (p, at) in self.feed.places.items() if at < look.positions.get(p, 0)}
            if missing := (passed & wanted.labels.keys()) - {name for name, _ in look.there["found"]}:
                self.fail(f"the position says that {len(missing)} rows are there which are not")
        self.outcome.note(self.supervisor)


class TablesReplay(EmbeddedRun):
    """From files by a table, two joins and a lookup to files, without a broker."""

    topology, rows, fetch_bytes = TOPOLOGY, 3_000, "8192"

    def _target(self) -> TablesFiles:
        (self._folder / "out.csv").write_text(_labels())
        return TablesFiles(self._folder / "out", "rows")

    def _maker(self) -> TablesMaker:
        return TablesMaker(self.dice)

    async def _judge(self) -> None:
        produced = read(self._folder / "journal.jsonl")
        values = {number: self._file(number).read_bytes().splitlines() for number in range(FILES)}
        rows, doomed = _fed(produced, values)
        seen = await self.target.look()
        assert isinstance(seen, TablesSeen)
        self.outcome.rows = len(produced.confirmed)
        self.outcome.wrong += [*wanted_of(rows).broken(seen.there), *seen.repeats]
        self.outcome.wrong += dead_differ(doomed, await self._dead(produced))


def _labels() -> str:
    return "\n".join(["deal,label", *(f"{deal},{label}" for deal, label in LABELS.items()), ""])


def _fed(
    produced: Produced, values: Mapping[int, Iterable[bytes]]
) -> tuple[dict[int, list[Mapping[str, Any]]], set[str]]:
    """The rows of each partition in order, and the ids of those that must be dead letters."""
    known, doomed = {row.digest: row for row in produced.rows.values()}, set[str]()
    fed: dict[int, list[Mapping[str, Any]]] = {}
    seen = list[str]()
    for number, partition in values.items():
        fed[number] = []
        for value in partition:
            row = known[digest_of(value)]
            seen.append(row.id)
            if row.fate == "dead":
                doomed.add(row.id)
            else:
                fed[number].append(orjson.loads(value))
    if produced.confirmed - set(seen) or len(set(seen)) < len(seen):
        raise Invalid("the source does not hold each acknowledged row once")
    return fed, doomed
