"""The store of metadata over an SQL database. What its methods promise is said in :mod:`.contract`."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar, cast

from streamcore.errors import BadConfig, Fenced, Transient
from streamcore.metadata import reading, writing
from streamcore.metadata.backfilled import SqlBackfills
from streamcore.metadata.backfills import Backfills
from streamcore.metadata.contract import PATIENCE, NewRun
from streamcore.metadata.database import Bulk, Database, Row, Statement, Value, Work
from streamcore.metadata.measured import SqlMeasurements
from streamcore.metadata.measurements import Measurements
from streamcore.metadata.migrations import STEPS
from streamcore.metadata.noticed import SqlNotices
from streamcore.metadata.notices import Notices
from streamcore.metadata.records import (
    AttemptRecord,
    Change,
    Claim,
    Claimable,
    EventRecord,
    PipelineRecord,
    Progress,
    RunRecord,
    RunTotals,
    TaskRecord,
)
from streamcore.metadata.scheduled import SqlScheduling
from streamcore.metadata.scheduling import Scheduling
from streamcore.metadata.states import RUN_ENDS, PipelineStatus

T = TypeVar("T")
_ALIVE = "status in ('queued', 'running')"
_FREE = "(owner is null or lease_until_us is null or lease_until_us < $1)"


class SqlStore:
    """See :class:`streamcore.metadata.contract.Store`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._scheduling = SqlScheduling(self._transact, self._rows)
        self._backfills = SqlBackfills(self._transact, self._rows)
        self._notices = SqlNotices(self._transact, self._rows)
        self._measurements = SqlMeasurements(self._transact, self._rows)

    @property
    def scheduling(self) -> Scheduling:
        return self._scheduling

    @property
    def backfills(self) -> Backfills:
        return self._backfills

    @property
    def notices(self) -> Notices:
        return self._notices

    @property
    def measurements(self) -> Measurements:
        return self._measurements

    async def open(self) -> None:
        """Bring the tables up to date; BadConfig when they are those of a newer streamcore."""
        noted = "create table if not exists streamcore_migrations (number bigint primary key)"
        await self._transact([*self._database.alone, Statement(noted)])
        found = await self._rows("select coalesce(max(number), 0) from streamcore_migrations")
        done = cast("int", found[0][0])
        if done > len(STEPS):
            raise BadConfig(
                "the metadata was written by a newer streamcore",
                got=done,
                allowed=[f"up to step {len(STEPS)}"],
                fix="install that version, or use another store",
            )
        for number, step in enumerate(STEPS[done:], done + 1):
            note = "insert into streamcore_migrations (number) values ($1) on conflict do nothing"
            statements = [Statement(sql.replace("{serial}", self._database.serial)) for sql in step]
            await self._transact([*self._database.alone, Statement(note, (number,), 1), *statements])
        name = "insert into streamcore_identity (one, store_id) values (1, $1) on conflict do nothing"
        await self._transact([Statement(name, (uuid.uuid4().hex,))])

    async def close(self) -> None:
        await self._database.close()

    # ------------------------------------------------------------ pipelines

    async def register(self, pipeline_id: str, config: str, now: int) -> PipelineRecord:
        digest = hashlib.sha256(config.encode()).hexdigest()
        while True:
            newest = await self.pipeline(pipeline_id)
            if newest is not None and newest.config == config:
                return newest
            version = newest.version + 1 if newest else 1
            sql = """insert into streamcore_pipelines (pipeline_id, version, digest, config, registered_us)
                values ($1, $2, $3, $4, $5) on conflict do nothing"""
            if await self._transact([Statement(sql, (pipeline_id, version, digest, config, now), 1)]):
                return PipelineRecord(pipeline_id, version, config, now)

    async def pipeline(self, pipeline_id: str, version: int | None = None) -> PipelineRecord | None:
        sql = f"select {reading.PIPELINE} from streamcore_pipelines where pipeline_id = $1"
        if version is not None:
            rows = await self._rows(f"{sql} and version = $2", pipeline_id, version)
        else:
            rows = await self._rows(f"{sql} order by version desc limit 1", pipeline_id)
        return reading.pipeline_of(rows[0]) if rows else None

    async def pipelines(self) -> list[PipelineRecord]:
        rows = await self._rows(
            f"""select {reading.PIPELINE} from streamcore_pipelines as one
            where version = (select max(version) from streamcore_pipelines as other
            where other.pipeline_id = one.pipeline_id) order by pipeline_id"""
        )
        return [reading.pipeline_of(row) for row in rows]

    # ------------------------------------------------------------ runs

    async def create_run(self, run: NewRun, now: int) -> bool:
        async def create() -> bool:
            if await self.run(run.run_id) is not None:
                return True  # made before, and the answer was lost
            return await self._database.transact(writing.created(run, now))

        return await _again(create)

    async def run(self, run_id: str) -> RunRecord | None:
        rows = await self._rows(f"select {reading.RUN} from streamcore_runs where run_id = $1", run_id)
        return reading.run_of(rows[0]) if rows else None

    async def runs(
        self,
        pipeline_id: str | None = None,
        *,
        statuses: Iterable[PipelineStatus] = (),
        limit: int = 100,
        before_us: int | None = None,
    ) -> list[RunRecord]:
        conditions, values = ["true"], cast("list[Value]", [])
        if pipeline_id is not None:
            values.append(pipeline_id)
            conditions.append(f"pipeline_id = ${len(values)}")
        if before_us is not None:
            values.append(before_us)
            conditions.append(f"created_us < ${len(values)}")
        if wanted := list(statuses):
            marks = []
            for status in wanted:
                values.append(status.value)
                marks.append(f"${len(values)}")
            conditions.append(f"status in ({', '.join(marks)})")
        values.append(limit)
        rows = await self._rows(
            f"select {reading.RUN} from streamcore_runs where {' and '.join(conditions)} "
            f"order by created_us desc, run_id desc limit ${len(values)}",
            *values,
        )
        return [reading.run_of(row) for row in rows]

    async def totals(self) -> list[RunTotals]:
        # The casts: PostgreSQL adds up bigint to numeric.
        rows = await self._rows(
            """select pipeline_id, status, count(*), coalesce(cast(sum(ended_us - started_us) as bigint), 0),
            coalesce(cast(sum(row_count) as bigint), 0), coalesce(cast(sum(byte_count) as bigint), 0),
            max(ended_us) from streamcore_runs as one left join
            (select run_id, sum(row_count) as row_count, sum(byte_count) as byte_count from streamcore_tasks
            group by run_id) as done on done.run_id = one.run_id
            group by pipeline_id, status order by pipeline_id, status"""
        )
        return [reading.totals_of(row) for row in rows]

    async def tasks(self, run_id: str) -> list[TaskRecord]:
        sql = f"select {reading.TASK} from streamcore_tasks where run_id = $1 order by place"
        return [reading.task_of(row) for row in await self._rows(sql, run_id)]

    async def attempts(self, run_id: str, task_id: str | None = None) -> list[AttemptRecord]:
        sql = f"select {reading.ATTEMPT} from streamcore_attempts where run_id = $1"
        one, values = ("", (run_id,)) if task_id is None else (" and task_id = $2", (run_id, task_id))
        rows = await self._rows(f"{sql}{one} order by started_us, task_id, attempt", *values)
        return [reading.attempt_of(row) for row in rows]

    async def events(self, run_id: str, after: int = 0) -> list[EventRecord]:
        sql = f"""select {reading.EVENT} from streamcore_events as one where run_id = $1 and event_id > $2
            order by event_id"""
        return [reading.event_of(row) for row in await self._rows(sql, run_id, after)]

    async def mark(self) -> str:
        sql = """select store_id, coalesce((select max(event_id) from streamcore_events), 0)
            from streamcore_identity"""
        return ":".join(str(value) for value in (await self._rows(sql))[0])

    # ------------------------------------------------------------ owners

    async def claimable(self, now: int, limit: int) -> list[Claimable]:
        sql = f"""select {reading.CLAIMABLE} from streamcore_runs where {_ALIVE} and {_FREE}
            order by priority desc, created_us limit $2"""
        return [reading.claimable_of(row) for row in await self._rows(sql, now, limit)]

    async def claim(self, run_id: str, owner: str, until: int, now: int) -> Claim | None:
        run = await self.run(run_id)
        if run is None or run.status in RUN_ENDS:
            return None
        sql = f"""update streamcore_runs set owner = $2, epoch = epoch + 1, lease_until_us = $3
            where run_id = $4 and epoch = $5 and {_ALIVE} and {_FREE}"""
        if not await self._transact([Statement(sql, (now, owner, until, run_id, run.epoch), 1)]):
            found = await self.run(run_id)
            if found is None or (found.owner, found.epoch) != (owner, run.epoch + 1):
                return None  # otherwise it was made, and the answer lost
        return Claim(run_id, owner, run.epoch + 1, run.changes)

    async def commit(self, claim: Claim, changes: Sequence[Change], now: int) -> None:
        work = writing.committed(claim, changes, now)
        if not await self._transact(work) and not await self._made(claim):
            raise Fenced(
                "the run has another owner, or was changed by one",
                where=f"run {claim.run_id}",
                fix="nothing: the other owner goes on with it",
            )
        claim.changes += 1

    async def _made(self, claim: Claim) -> bool:
        """Whether the commit that came after *claim* was made before, and its answer lost."""
        run = await self.run(claim.run_id)
        here = None if run is None else (run.owner, run.epoch, run.changes)
        return here == (claim.owner, claim.epoch, claim.changes + 1)

    async def release(self, claim: Claim) -> None:
        sql = """update streamcore_runs set owner = null, lease_until_us = null
            where run_id = $1 and owner = $2 and epoch = $3"""
        await self._transact([Statement(sql, (claim.run_id, claim.owner, claim.epoch))])

    async def beat(self, owner: str, until: int, progress: Sequence[Progress] = ()) -> dict[str, bool]:
        shown = [
            (one.rows, one.bytes, writing.storable(one.log), one.run_id, one.task_id, one.attempt)
            for one in progress
        ]
        work: list[Statement | Bulk] = [
            Statement(
                f"update streamcore_runs set lease_until_us = $1 where owner = $2 and {_ALIVE}",
                (until, owner),
            ),
            Bulk(
                """update streamcore_tasks set row_count = $1, byte_count = $2
                where run_id = $3 and task_id = $4 and attempts = $5 and status = 'running'""",
                [(one.rows, one.bytes, one.run_id, one.task_id, one.attempt) for one in progress],
            ),
            Bulk(
                """update streamcore_attempts set row_count = $1, byte_count = $2, log = $3
                where run_id = $4 and task_id = $5 and attempt = $6 and status = 'running'""",
                shown,
            ),
        ]
        await self._transact(work)
        sql = f"select run_id, cancel_us from streamcore_runs where owner = $1 and {_ALIVE}"
        return {str(run_id): cancel is not None for run_id, cancel in await self._rows(sql, owner)}

    async def cancel(self, run_id: str, now: int) -> bool:
        sql = f"update streamcore_runs set cancel_us = coalesce(cancel_us, $1) where run_id = $2 and {_ALIVE}"
        return await self._transact([Statement(sql, (now, run_id), 1)])

    async def reopen(self, run_id: str, tasks: Iterable[str], now: int) -> bool:
        run = await self.run(run_id)
        if run is None or run.status not in (PipelineStatus.FAILED, PipelineStatus.CANCELLED):
            return False
        return await self._transact(writing.reopened(run_id, run.status, list(tasks), now))

    # ------------------------------------------------------------ outbox, leases

    async def unpublished(self, limit: int) -> list[EventRecord]:
        sql = f"""select {reading.EVENT} from streamcore_events as one where published_us is null
            order by event_id limit $1"""
        return [reading.event_of(row) for row in await self._rows(sql, limit)]

    async def published(self, event_ids: Sequence[int], now: int) -> None:
        sql = "update streamcore_events set published_us = $1 where event_id = $2"
        await self._transact([Bulk(sql, [(now, event_id) for event_id in event_ids])])

    async def lease(self, name: str, owner: str, until: int, now: int) -> bool:
        sql = """insert into streamcore_leases as held (name, owner, until_us) values ($1, $2, $3)
            on conflict (name) do update set owner = excluded.owner, until_us = excluded.until_us
            where held.owner = excluded.owner or held.until_us < $4
            or held.until_us > excluded.until_us + (excluded.until_us - $4)"""
        return await self._transact([Statement(sql, (name, owner, until, now), 1)])

    # ------------------------------------------------------------ the database

    async def _transact(self, work: Work) -> bool:
        return await _again(lambda: self._database.transact(work))

    async def _rows(self, sql: str, *values: Value) -> Sequence[Row]:
        return await _again(lambda: self._database.rows(sql, *values))


async def _again(call: Callable[[], Awaitable[T]]) -> T:
    """*call*, tried again for PATIENCE seconds while it raises Transient."""
    deadline, pause = time.monotonic() + PATIENCE, 0.05
    while True:
        try:
            return await call()
        except Transient:
            if time.monotonic() + pause > deadline:
                raise
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - spreads retries
            pause = min(pause * 2, 2.0)
