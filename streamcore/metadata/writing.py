"""Changes of a run as statements: each checked by the table of moves, made only from the state it saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import orjson
from pydantic import JsonValue

from streamcore.metadata.contract import NewRun
from streamcore.metadata.database import Bulk, Statement, Value, Work
from streamcore.metadata.noticed import ADD, added
from streamcore.metadata.records import AttemptMoved, Change, Claim, Noticed, RunMoved, TaskMoved
from streamcore.metadata.states import RUN_ENDS, PipelineStatus, TaskStatus, check_move

EVENT = "insert into streamcore_events (run_id, at_us, kind, task_id, data) values ($1, $2, $3, $4, $5)"
_OWNED = """update streamcore_runs set changes = changes + 1
    where run_id = $1 and owner = $2 and epoch = $3 and changes = $4"""
_TASK = """update streamcore_tasks set status = $1, attempts = $2, failures = $3, lost = $4, started_us = $5,
    ended_us = $6, due_us = $7, row_count = $8, byte_count = $9, reason = $10, datasets = $11
    where run_id = $12 and task_id = $13 and status = $14"""
_NEW_ATTEMPT = """insert into streamcore_attempts (run_id, task_id, attempt, status, started_us, error, log)
    values ($1, $2, $3, $4, $5, '', '')"""
_ATTEMPT = """update streamcore_attempts set status = $1, ended_us = $2, row_count = $3, byte_count = $4,
    error = $5, log = $6 where run_id = $7 and task_id = $8 and attempt = $9 and status = $10"""
_NEW_RUN = """insert into streamcore_runs (run_id, pipeline_id, version, status, created_us, scheduled_us,
    parameters, priority, reason, owner, epoch, changes, lease_until_us)
    values ($1, $2, $3, 'queued', $4, $5, $6, $7, '', $8, $9, 0, $10)"""
_NEW_TASK = """insert into streamcore_tasks (run_id, task_id, place, status, attempts, failures, lost, reason,
    datasets) values ($1, $2, $3, 'pending', 0, 0, 0, '', '{}')"""
_FIRING = """insert into streamcore_firings (pipeline_id, scheduled_us, run_id, created_us)
    values ($1, $2, $3, $4) on conflict do nothing"""
_FIRED_AGAIN = """update streamcore_firings set run_id = $3
    where pipeline_id = $1 and scheduled_us = $2 and run_id = $4"""
_REOPENED = """update streamcore_runs set status = 'queued', ended_us = null, reason = '', owner = null,
    lease_until_us = null, cancel_us = null where run_id = $1 and status = $2"""
_REOPENED_TASK = """update streamcore_tasks set status = 'pending', failures = 0, lost = 0, started_us = null,
    ended_us = null, due_us = null, reason = '', datasets = '{}' where run_id = $1 and task_id = $2
    and status in ('failed', 'skipped', 'cancelled')"""


def text(value: object) -> str:
    """JSON of a mapping."""
    return orjson.dumps(value).decode()


def storable(said: str) -> str:
    """What a task said, without what a database or UTF-8 can't hold: NUL and lone surrogates are escaped."""
    return said.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def event(
    run_id: str, at: int, kind: str, task_id: str | None = None, **data: JsonValue
) -> tuple[Value, ...]:
    """The values of :data:`EVENT`; what is None or empty is left out of *data*."""
    said = {
        key: storable(value) if isinstance(value, str) else value
        for key, value in data.items()
        if value not in (None, "", {})
    }
    return run_id, at, kind, task_id, text(said)


def created(run: NewRun, now: int) -> Work:
    """A queued run, its tasks and, if it has one, its firing."""
    work: list[Statement | Bulk] = []
    if run.scheduled_us is not None:
        values: tuple[Value, ...] = (run.pipeline_id, run.scheduled_us, run.run_id)
        if run.instead_of is None:
            work.append(Statement(_FIRING, (*values, now), 1))
        else:
            work.append(Statement(_FIRED_AGAIN, (*values, run.instead_of), 1))
    epoch = 0 if run.owner is None else 1
    values = (run.run_id, run.pipeline_id, run.version, now, run.scheduled_us, text(run.parameters))
    work.append(Statement(_NEW_RUN, (*values, run.priority, run.owner, epoch, run.lease_until_us)))
    work.append(Bulk(_NEW_TASK, [(run.run_id, task, place) for place, task in enumerate(run.tasks)]))
    said = event(run.run_id, now, "run.queued", pipeline=run.pipeline_id, version=run.version)
    return [*work, Statement(EVENT, said)]


def committed(claim: Claim, changes: Sequence[Change], now: int) -> Work:
    """*changes* of the owner of *claim*, and their events. Permanent for a move that is not legal."""
    work: list[Statement | Bulk] = [
        Statement(_OWNED, (claim.run_id, claim.owner, claim.epoch, claim.changes), 1)
    ]
    events: list[tuple[Value, ...]] = []
    for change in changes:
        if isinstance(change, RunMoved):
            work.append(_run_moved(claim.run_id, change, now))
            kind = f"run.{change.after}"
            events.append(event(claim.run_id, now, kind, before=str(change.before), reason=change.reason))
        elif isinstance(change, TaskMoved):
            work.append(_task_moved(claim.run_id, change))
            events.append(_task_event(claim.run_id, change, now))
        elif isinstance(change, Noticed):
            work.append(Statement(ADD, added(change.notice)))
        else:
            work.append(_attempt_moved(claim.run_id, change))
    return [*work, Bulk(EVENT, events)]


def reopened(run_id: str, before: PipelineStatus, tasks: Sequence[str], now: int) -> Work:
    """A run that has ended, queued again with *tasks* pending."""
    check_move(before, PipelineStatus.QUEUED, f"run {run_id}")
    return [
        Statement(_REOPENED, (run_id, before.value), 1),
        *(Statement(_REOPENED_TASK, (run_id, task), 1) for task in tasks),
        Statement(EVENT, event(run_id, now, "run.queued", before=str(before), tasks=list(tasks))),
    ]


def _run_moved(run_id: str, change: RunMoved, now: int) -> Statement:
    check_move(change.before, change.after, f"run {run_id}")
    what = "ended_us = $5" if change.after in RUN_ENDS else "started_us = coalesce(started_us, $5)"
    return Statement(
        f"update streamcore_runs set status = $1, reason = $2, {what} where run_id = $3 and status = $4",
        (change.after.value, storable(change.reason), run_id, change.before.value, now),
        1,
    )


def _task_moved(run_id: str, change: TaskMoved) -> Statement:
    task = change.after
    check_move(change.before, task.status, f"task {task.task_id} of run {run_id}")
    values = (task.status.value, task.attempts, task.failures, task.lost, task.started_us, task.ended_us)
    more = (task.due_us, task.rows, task.bytes, storable(task.reason), text(task.datasets))
    return Statement(_TASK, (*values, *more, run_id, task.task_id, change.before.value), 1)


def _attempt_moved(run_id: str, change: AttemptMoved) -> Statement:
    one = change.after
    if change.before is None:
        values: tuple[Value, ...] = (run_id, one.task_id, one.attempt, one.status.value, one.started_us)
        return Statement(_NEW_ATTEMPT, values)
    check_move(change.before, one.status, f"attempt {one.attempt} at {one.task_id} of run {run_id}")
    values = (one.status.value, one.ended_us, one.rows, one.bytes, storable(one.error), storable(one.log))
    return Statement(_ATTEMPT, (*values, run_id, one.task_id, one.attempt, change.before.value), 1)


def _task_event(run_id: str, change: TaskMoved, now: int) -> tuple[Value, ...]:
    task = change.after
    done = task.status is TaskStatus.SUCCESS
    return event(
        run_id,
        now,
        f"task.{task.status}",
        task.task_id,
        before=str(change.before),
        attempt=task.attempts or None,
        reason=task.reason,
        due_us=task.due_us,
        rows=task.rows if done else None,
        bytes=task.bytes if done else None,
        datasets=cast("dict[str, JsonValue]", dict(task.datasets)) if done else None,
    )
