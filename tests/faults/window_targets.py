"""Where the windows of a fault run end, as the oracle sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg
import polars as pl

from tests.faults.targets import FilesTarget, Positions, PostgresTarget
from tests.faults.window_oracle import Seen

SINKS = ("shops", "spans", "late")


class WindowsSeen(NamedTuple):
    """A look: *positions* of the source, *numbers* how many windows each sink says that it has."""

    positions: Positions
    there: Seen
    numbers: Mapping[str, int]

    @property
    def effects(self) -> Sequence[object]:
        """Everything that is there, to see whether a look differs from another."""
        return [*self.there.shops, *self.there.spans, *self.there.late]


class WindowTables(PostgresTarget):
    """A table for each sink."""

    async def prepare(self) -> None:
        async with self._connected() as connection:
            await connection.execute(
                "create table shops (shop text, window_start bigint, window_end bigint, counted bigint, "
                "total bigint, place bigserial); create table spans (window_start bigint, "
                "window_end bigint, windows bigint, counted bigint, place bigserial); "
                "create table late (id text, key text, shop text, at bigint, n bigint, note text, "
                "place bigserial)"
            )

    async def windows(self) -> set[tuple[str | None, int]]:
        """The windows of shops that are there."""
        async with self._connected() as connection:
            rows = await connection.fetch("select shop, window_start from shops")
        return {(row[0], row[1]) for row in rows}

    async def look(self) -> WindowsSeen:  # type: ignore[override]
        async with self._connected() as connection, connection.transaction(isolation="repeatable_read"):
            positions = await self._positions(connection)
            shops = await connection.fetch(
                "select shop, window_start, window_end, counted, total from shops order by place"
            )
            spans = await connection.fetch(
                "select window_start, window_end, windows, counted from spans order by place"
            )
            late = await connection.fetch("select id from late order by place")
            there = Seen([tuple(r) for r in shops], [tuple(r) for r in spans], [r["id"] for r in late])
            return WindowsSeen(positions, there, await self._numbers(connection))

    async def _numbers(self, connection: asyncpg.Connection) -> dict[str, int]:
        if not await connection.fetchval("select to_regclass('streamcore_positions')"):
            return {}
        rows = await connection.fetch(
            "select sink, sum(next_offset)::bigint as n from streamcore_positions "
            "where topic <> $1 group by sink",
            self._topic,
        )
        return {row["sink"].rpartition(":")[2]: row["n"] for row in rows}


class WindowFiles(FilesTarget):
    """A folder of files for each sink."""

    async def positions(self) -> Positions:
        """How far each of the sinks has come, all together: it grows with each seal."""
        parts = [FilesTarget(self.folder / sink, "") for sink in SINKS]
        return {number: sum((await part.positions()).values()) for number, part in enumerate(parts)}

    async def look(self) -> WindowsSeen:  # type: ignore[override]
        found = {sink: _rows(self.folder / sink) for sink in SINKS}
        late = [str(row[0]) for row in found["late"]]
        return WindowsSeen(await self.positions(), Seen(found["shops"], found["spans"], late), {})


def _rows(folder: Path) -> list[tuple[object, ...]]:
    """In each partition of a log the order of the files' names is the one in which they came."""
    paths = sorted(folder.glob("*.parquet"), key=lambda path: path.name)
    return [row for path in paths for row in pl.read_parquet(path).rows()]
