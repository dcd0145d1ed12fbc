"""Measurements over an SQL database. What the methods promise is said in :mod:`.measurements`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import orjson

from streamcore.metadata.database import Rows, Statement, Work
from streamcore.metadata.measurements import Measurement
from streamcore.metadata.reading import mapping, reader

_COLUMNS = "dataset, at_us, level, row_count, refused, run_id, found"
_measurement_of = reader(Measurement, found=mapping)


class SqlMeasurements:
    """See :class:`streamcore.metadata.measurements.Measurements`."""

    def __init__(self, transact: Callable[[Work], Awaitable[bool]], rows: Rows) -> None:
        self._transact, self._rows = transact, rows

    async def add(self, one: Measurement) -> None:
        sql = f"""insert into streamcore_measurements ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7)
            on conflict do nothing"""
        found = orjson.dumps(one.found).decode()
        values = (one.dataset, one.at_us, one.level, one.rows, one.refused, one.run_id, found)
        await self._transact([Statement(sql, values)])

    async def last(self, dataset: str, count: int) -> list[Measurement]:
        sql = f"""select {_COLUMNS} from streamcore_measurements where dataset = $1
            order by measurement_id desc limit $2"""
        return [_measurement_of(row) for row in reversed(await self._rows(sql, dataset, count))]

    async def datasets(self) -> Sequence[Measurement]:
        sql = f"""select {_COLUMNS} from streamcore_measurements where measurement_id in
            (select max(measurement_id) from streamcore_measurements group by dataset) order by dataset"""
        return [_measurement_of(row) for row in await self._rows(sql)]

    async def keep_baseline(self, dataset: str, profile: str, now: int) -> None:
        sql = """insert into streamcore_baselines (dataset, profile, kept_us) values ($1, $2, $3)
            on conflict (dataset) do update set profile = excluded.profile, kept_us = excluded.kept_us"""
        await self._transact([Statement(sql, (dataset, profile, now))])

    async def baseline(self, dataset: str) -> str | None:
        rows = await self._rows("select profile from streamcore_baselines where dataset = $1", dataset)
        return str(rows[0][0]) if rows else None
