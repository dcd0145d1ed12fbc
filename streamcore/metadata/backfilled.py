"""Backfills over an SQL database. What the methods promise is said in :mod:`.backfills`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import cast

from streamcore.metadata import reading, writing
from streamcore.metadata.backfills import BackfillRecord, BackfillStatus, NewBackfill, Waiting
from streamcore.metadata.contract import NewRun
from streamcore.metadata.database import Bulk, Rows, Statement, Value, Work
from streamcore.metadata.records import RunRecord

_BACKFILL = """backfill_id, pipeline_id, status, created_us, ended_us, from_us, to_us, parallel, reprocess,
    parameters, started"""
_NEW = f"""insert into streamcore_backfills ({_BACKFILL})
    values ($1, $2, 'running', $3, null, $4, $5, $6, $7, $8, 0) on conflict do nothing"""
_NEW_FIRING = """insert into streamcore_backfill_firings (backfill_id, place, scheduled_us, status)
    values ($1, $2, $3, 'waiting')"""
_COUNTED = """update streamcore_backfills set started = started + 1
    where backfill_id = $1 and status = 'running' and started = $2"""
_STARTED = """update streamcore_backfill_firings set status = 'started', run_id = $3
    where backfill_id = $1 and place = $2 and status = 'waiting'"""
_RUNS_OF = "select run_id from streamcore_backfill_firings where backfill_id = $1 and status = 'started'"

_backfill_of = reading.reader(BackfillRecord, status=BackfillStatus, parameters=reading.mapping)
_waiting_of = reading.reader(Waiting)


class SqlBackfills:
    """See :class:`streamcore.metadata.backfills.Backfills`."""

    def __init__(self, transact: Callable[[Work], Awaitable[bool]], rows: Rows) -> None:
        self._transact, self._rows = transact, rows

    async def create(self, new: NewBackfill, now: int) -> None:
        span = (min(new.firings), max(new.firings))
        more = (new.parallel, new.reprocess, writing.text(new.parameters))
        firings: list[tuple[Value, ...]] = [
            (new.backfill_id, place, at) for place, at in enumerate(new.firings)
        ]
        one = Statement(_NEW, (new.backfill_id, new.pipeline_id, now, *span, *more), 1)
        await self._transact([one, Bulk(_NEW_FIRING, firings)])

    async def backfills(
        self, pipeline_id: str | None = None, *, running: bool = False, limit: int = 100
    ) -> list[BackfillRecord]:
        which, values = "true", cast("list[Value]", [limit])
        if pipeline_id is not None:
            which, values = "pipeline_id = $2", [limit, pipeline_id]
        alive = " and status = 'running'" if running else ""
        rows = await self._rows(
            f"""select {_BACKFILL} from streamcore_backfills where {which}{alive}
            order by created_us desc, backfill_id limit $1""",
            *values,
        )
        found = [_backfill_of(row) for row in rows]
        return [replace(one, counts=await self._counts(one.backfill_id)) for one in found]

    async def _counts(self, backfill_id: str) -> dict[str, int]:
        rows = await self._rows(
            """select coalesce(run.status, firing.status), count(*) from streamcore_backfill_firings as firing
            left join streamcore_runs as run on run.run_id = firing.run_id where firing.backfill_id = $1
            group by 1""",
            backfill_id,
        )
        return {str(status): cast("int", count) for status, count in rows}

    async def waiting(self, backfill_id: str, limit: int) -> list[Waiting]:
        sql = """select place, scheduled_us from streamcore_backfill_firings
            where backfill_id = $1 and status = 'waiting' order by place limit $2"""
        return [_waiting_of(row) for row in await self._rows(sql, backfill_id, limit)]

    async def runs_of(self, pipeline_id: str, from_us: int, to_us: int) -> dict[int, RunRecord]:
        sql = f"""select {reading.RUN} from streamcore_runs where run_id in (select run_id
            from streamcore_firings where pipeline_id = $1 and scheduled_us between $2 and $3)"""
        runs = [reading.run_of(row) for row in await self._rows(sql, pipeline_id, from_us, to_us)]
        return {run.scheduled_us: run for run in runs if run.scheduled_us is not None}

    async def start(self, backfill: BackfillRecord, place: int, run: NewRun, now: int) -> bool:
        return await self._transact([*_started(backfill, place, run.run_id), *writing.created(run, now)])

    async def reopen(
        self, backfill: BackfillRecord, place: int, run: RunRecord, tasks: Sequence[str], now: int
    ) -> bool:
        again = writing.reopened(run.run_id, run.status, tasks, now)
        return await self._transact([*_started(backfill, place, run.run_id), *again])

    async def leave_out(self, backfill_id: str, place: int) -> None:
        sql = """update streamcore_backfill_firings set status = 'left out'
            where backfill_id = $1 and place = $2 and status = 'waiting'"""
        await self._transact([Statement(sql, (backfill_id, place))])

    async def finish(self, backfill_id: str, now: int) -> bool:
        sql = """update streamcore_backfills set status = 'done', ended_us = $2
            where backfill_id = $1 and status = 'running' and not exists (select 1
            from streamcore_backfill_firings where backfill_id = $1 and status = 'waiting')"""
        return await self._transact([Statement(sql, (backfill_id, now), 1)])

    async def cancel(self, backfill_id: str, now: int) -> bool:
        ended = """update streamcore_backfills set status = 'cancelled', ended_us = $2
            where backfill_id = $1 and status = 'running'"""
        asked = f"""update streamcore_runs set cancel_us = coalesce(cancel_us, $2)
            where run_id in ({_RUNS_OF}) and status in ('queued', 'running')"""
        values: tuple[Value, ...] = (backfill_id, now)
        return await self._transact([Statement(ended, values, 1), Statement(asked, values)])


def _started(backfill: BackfillRecord, place: int, run_id: str) -> list[Statement]:
    """The row of the list and the count, first of all: they hold up who else would start one."""
    return [
        Statement(_COUNTED, (backfill.backfill_id, backfill.started), 1),
        Statement(_STARTED, (backfill.backfill_id, place, run_id), 1),
    ]
