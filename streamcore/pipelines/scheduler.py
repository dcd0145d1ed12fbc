"""The scheduler: makes runs of the firings that are due. One of many leads, by a lease of the store.

Of a firing: its run is made, claimed by a unique row (pipeline, time), and then the pipeline's position goes
past it. Who dies in between leaves the old position; the next leader finds the firing due, and its row taken.
So does a leader that was stopped and does not know yet that another one leads.

Time is passed in. When the clock was put back behind the position, the position follows it: what has a run
is not run again, and what has none comes at its time.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from streamcore.crashpoints import crash_point
from streamcore.errors import BadConfig
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.records import PipelineRecord
from streamcore.metadata.scheduling import ScheduleRecord
from streamcore.pipelines.backfilling import advance
from streamcore.pipelines.due import Period, due
from streamcore.pipelines.graph import graph_of
from streamcore.pipelines.leading import Leader
from streamcore.pipelines.models import PipelineConfig
from streamcore.pipelines.schedules import Schedule, local, schedule_of

log = logging.getLogger("streamcore.pipelines")
MOST_FIRINGS = 100
"""So many runs are made in one tick at most; the rest follows in the next ones."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """The newest version of a pipeline, as far as the scheduler needs it."""

    version: int
    registered_us: int
    tasks: Sequence[str]
    schedule: Schedule | None


class Scheduler(Leader):
    """Makes runs of what is due, if it leads."""

    job, page = "schedules", MOST_FIRINGS

    def __init__(self, store: Store, owner: str, lease_us: int, clock: Callable[[], int]) -> None:
        super().__init__(store, owner, lease_us, clock)
        self._planned: dict[str, _Planned] = {}
        self._wake: dict[ScheduleRecord, int | None] = {}

    async def _lead(self, now: int) -> int:
        """Make the runs that are due at *now*; how many."""
        records = await self._store.scheduling.schedules()
        made = await self._make_due(records, now)
        return made + await self._carry_on_backfills({one.pipeline_id: one for one in records}, now)

    async def _make_due(self, records: Sequence[ScheduleRecord], now: int) -> int:
        made = 0
        wake: dict[ScheduleRecord, int | None] = {}
        for record in records:
            if record.paused_us is None:
                count, wake[record] = await self._look_at(record, now, MOST_FIRINGS - made)
                made += count
        self._wake = wake
        return made

    async def _carry_on_backfills(self, records: Mapping[str, ScheduleRecord], now: int) -> int:
        made = 0
        for backfill in reversed(await self._store.backfills.backfills(running=True)):
            try:
                planned = await self._newest(records[backfill.pipeline_id])
            except (BadConfig, ValidationError) as error:
                log.error("backfill %s waits, its pipeline can't be read: %s", backfill.backfill_id, error)
                continue
            if planned is not None:
                made += await advance(self._store, backfill, planned.version, planned.tasks, now)
        return made

    async def _look_at(self, record: ScheduleRecord, now: int, room: int) -> tuple[int, int | None]:
        """How many runs of the pipeline were made, and when to look again if its record stays as it is."""
        moved_back = record.position_us is not None and record.position_us > now
        wake = self._wake.get(record, now)
        if not moved_back and (wake is None or now < wake):
            return 0, wake
        if room <= 0:
            return 0, now
        try:
            return await self._fire(record, now, room)
        except (BadConfig, ValidationError) as error:
            log.error("pipeline %s has a schedule that can't be used: %s", record.pipeline_id, error)
            return 0, None

    async def _fire(self, record: ScheduleRecord, now: int, room: int) -> tuple[int, int | None]:
        planned = await self._newest(record)
        if planned is None:
            return 0, now
        first, periods = await self._periods(record, planned)
        position = min(first if record.position_us is None else record.position_us, now)
        found = due(periods, position, now, room)
        if planned.schedule is not None and found.left_out is not None:
            log.warning(
                "pipeline %s: firings from %s on were missed and are left out (catchup: %s)",
                record.pipeline_id,
                local(found.left_out, planned.schedule.zone).isoformat(),
                planned.schedule.catchup,
            )
        made = 0
        for number, firing in enumerate(found.firings):
            crash_point("schedule.due")
            run_id = uuid.uuid4().hex
            run = NewRun(run_id, record.pipeline_id, planned.version, planned.tasks, scheduled_us=firing)
            made += await self._store.create_run(run, now + number)  # they stay in their order
            crash_point("schedule.made")
        if found.position != record.position_us:
            await self._store.scheduling.passed(record.pipeline_id, found.position, record.position_us)
            return made, now
        return made, found.wake

    async def _newest(self, record: ScheduleRecord) -> _Planned | None:
        known = self._planned.get(record.pipeline_id)
        if known is None or known.version != record.version:
            stored = await self._store.pipeline(record.pipeline_id, record.version)
            if stored is None:
                return None
            config = PipelineConfig.model_validate_json(stored.config)
            tasks = graph_of(config.tasks).order
            known = _Planned(record.version, stored.registered_us, tasks, schedule_of(config))
            self._planned[record.pipeline_id] = known
        return known

    async def _periods(self, record: ScheduleRecord, newest: _Planned) -> tuple[int, list[Period]]:
        """When the oldest version began that may matter, and the schedules from then on."""
        periods = [Period(newest.registered_us, newest.schedule)]
        version = record.version
        while version > 1 and (record.position_us is None or periods[0].from_us > record.position_us):
            version -= 1
            stored = await self._store.pipeline(record.pipeline_id, version)
            if stored is not None:
                periods.insert(0, Period(stored.registered_us, _schedule_in(stored)))
        return periods[0].from_us, periods


def _schedule_in(stored: PipelineRecord) -> Schedule | None:
    """The schedule of a former version; None when it can't be read any more."""
    try:
        return schedule_of(PipelineConfig.model_validate_json(stored.config))
    except (BadConfig, ValidationError):
        return None
