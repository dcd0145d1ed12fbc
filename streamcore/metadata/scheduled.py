"""Schedules over an SQL database. What the methods promise is said in :mod:`.scheduling`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streamcore.metadata.database import Rows, Statement, Work
from streamcore.metadata.reading import reader
from streamcore.metadata.scheduling import ScheduleRecord

_schedule_of = reader(ScheduleRecord)


class SqlScheduling:
    """See :class:`streamcore.metadata.scheduling.Scheduling`."""

    def __init__(self, transact: Callable[[Work], Awaitable[bool]], rows: Rows) -> None:
        self._transact, self._rows = transact, rows

    async def schedules(self) -> list[ScheduleRecord]:
        rows = await self._rows(
            """select known.pipeline_id, known.version, position_us, paused_us from
            (select pipeline_id, max(version) as version from streamcore_pipelines group by pipeline_id)
            as known left join streamcore_schedules as held on held.pipeline_id = known.pipeline_id
            order by known.pipeline_id"""
        )
        return [_schedule_of(row) for row in rows]

    async def passed(self, pipeline_id: str, position_us: int, seen_us: int | None) -> bool:
        sql = """insert into streamcore_schedules as held (pipeline_id, position_us) values ($1, $2)
            on conflict (pipeline_id) do update set position_us = excluded.position_us
            where coalesce(held.position_us, -1) = $3"""
        seen = -1 if seen_us is None else seen_us
        return await self._transact([Statement(sql, (pipeline_id, position_us, seen), 1)])

    async def pause(self, pipeline_id: str, now: int) -> bool:
        sql = """insert into streamcore_schedules as held (pipeline_id, paused_us) values ($1, $2)
            on conflict (pipeline_id) do update set paused_us = excluded.paused_us
            where held.paused_us is null"""
        return await self._transact([Statement(sql, (pipeline_id, now), 1)])

    async def resume(self, pipeline_id: str) -> bool:
        sql = """update streamcore_schedules set paused_us = null
            where pipeline_id = $1 and paused_us is not null"""
        return await self._transact([Statement(sql, (pipeline_id,), 1)])
