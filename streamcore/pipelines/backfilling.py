"""Backfills: firings of a past range as runs, a few at a time, behind live work.

The leading scheduler carries all of them on, tick by tick. What is stored is the list of firings; a run and
its place in the list are made in one transaction, so a backfill goes on after a kill -9 where it was.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from streamcore.crashpoints import crash_point
from streamcore.errors import BadConfig
from streamcore.metadata.backfills import BackfillRecord, Reprocess
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.records import RunRecord
from streamcore.metadata.states import RUN_ENDS, PipelineStatus
from streamcore.pipelines.deciding import to_reopen
from streamcore.pipelines.schedules import Schedule

log = logging.getLogger("streamcore.pipelines")
PRIORITY = -10
"""Of a backfill's runs: those of schedules and people, which have 0, go first."""
MOST_FIRINGS = 100_000
"""Of one backfill."""
_PAGE = 200


class Step(str, Enum):
    """What a backfill does with a firing."""

    RUN = "run"
    AGAIN = "run again"
    GO_ON = "go on with its run"
    LEAVE_OUT = "leave out"


def step_of(reprocess: Reprocess, run: RunRecord | None) -> Step:
    """What is done with a firing that has this *run*. One that is under way is left alone."""
    if run is None:
        return Step.RUN
    if run.status not in RUN_ENDS or reprocess == "none":
        return Step.LEAVE_OUT
    if reprocess == "all":
        return Step.AGAIN
    return Step.LEAVE_OUT if run.status is PipelineStatus.SUCCESS else Step.GO_ON


def firings_of(schedule: Schedule, begin: int, end: int, now: int, *, backwards: bool = False) -> list[int]:
    """The firings from *begin* on, before *end*, that are not in the future; the newest first if *backwards*.

    BadConfig: there are none, or more than MOST_FIRINGS.
    """
    found: list[int] = []
    for firing in schedule.between(begin - 1, min(end - 1, now)):
        if len(found) == MOST_FIRINGS:
            most = [f"up to {MOST_FIRINGS}"]
            raise BadConfig("a backfill has too many firings", allowed=most, fix="split it")
        found.append(firing)
    if not found:
        raise BadConfig("nothing was due in this range", fix="see streamcore schedule next NAME --from TIME")
    return found[::-1] if backwards else found


async def advance(
    store: Store, backfill: BackfillRecord, version: int, tasks: Sequence[str], now: int
) -> int:
    """Start as many runs of *backfill* as there is room for, with this version's *tasks*; how many."""
    begun = 0
    page = await store.backfills.waiting(backfill.backfill_id, _PAGE)
    for one in page:
        if backfill.active + begun >= backfill.parallel:
            break
        at = one.scheduled_us
        run = (await store.backfills.runs_of(backfill.pipeline_id, at, at)).get(at)
        step = step_of(backfill.reprocess, run)
        if step is Step.LEAVE_OUT:
            await store.backfills.leave_out(backfill.backfill_id, one.place)
            continue
        crash_point("backfill.due")
        seen = replace(backfill, started=backfill.started + begun)
        if run is not None and step is Step.GO_ON:
            again = to_reopen(await store.tasks(run.run_id))
            made = await store.backfills.reopen(seen, one.place, run, again, now)
        else:
            new = _run(backfill, version, tasks, at, run)
            made = await store.backfills.start(seen, one.place, new, now + begun)  # they stay in their order
        crash_point("backfill.started")
        if not made:
            break  # something has changed since this was read: the next tick sees it
        begun += 1
    if not page and not backfill.active and await store.backfills.finish(backfill.backfill_id, now):
        log.info("backfill %s of pipeline %s is done", backfill.backfill_id, backfill.pipeline_id)
    return begun


def _run(
    backfill: BackfillRecord, version: int, tasks: Sequence[str], firing: int, before: RunRecord | None
) -> NewRun:
    return NewRun(
        uuid.uuid4().hex,
        backfill.pipeline_id,
        version,
        tasks,
        backfill.parameters,
        scheduled_us=firing,
        priority=PRIORITY,
        instead_of=None if before is None else before.run_id,
    )
