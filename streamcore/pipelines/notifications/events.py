"""What is told of a run: a pure function of its changes. The notices are stored together with them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from streamcore.metadata.notices import Notice
from streamcore.metadata.records import (
    AttemptMoved,
    Change,
    Noticed,
    RunMoved,
    RunRecord,
    TaskMoved,
    TaskRecord,
)
from streamcore.metadata.states import RUN_ENDS, AttemptStatus, PipelineStatus, TaskStatus
from streamcore.pipelines.models import NotifyOn, PipelineConfig
from streamcore.pipelines.notifications.channels import sla_seconds

_MOST = 2000
"""So many characters of an error are told."""


def noticed(
    config: PipelineConfig,
    run: RunRecord,
    tasks: Mapping[str, TaskRecord],
    changes: Sequence[Change],
    now: int,
    commit: int,
) -> Iterator[Noticed]:
    """What *changes* of *run* are to be told; *tasks* as they are then. *commit*: the number of this commit.

    Nothing when the pipeline asks for no notifications.
    """
    if not config.notifications:
        return
    failed = {
        change.after.task_id
        for change in changes
        if isinstance(change, AttemptMoved)
        and change.after.status in (AttemptStatus.FAILED, AttemptStatus.TIMED_OUT)
    }
    for change in changes:
        if isinstance(change, TaskMoved) and change.after.status is TaskStatus.RETRYING:
            if "on_retry" in config.notifications and change.after.task_id in failed:
                yield Noticed(_retried(config, run, change.after, now))
        elif isinstance(change, RunMoved) and change.after in RUN_ENDS:
            if (missed := late(config, run, now)) is not None:
                yield Noticed(missed)
            event = _ENDS.get(change.after)
            if event in config.notifications:
                yield Noticed(_ended(config, run, tasks, change, now, f"{event}/{commit}"))


def late(config: PipelineConfig, run: RunRecord, now: int) -> Notice | None:
    """That *run* has not ended in the time that ``on_sla_miss`` gives it; None when it has time."""
    seconds = sla_seconds(config.notifications.get("on_sla_miss"))
    meant = run.scheduled_us if run.scheduled_us is not None else run.created_us
    if seconds is None or now < meant + round(seconds * 1e6) or run.priority < 0:
        return None  # a backfill's run has no time by which it is awaited
    error = f"not ended {seconds:g} s after its time"
    return _notice(config, run, "on_sla_miss", "on_sla_miss", now, status="late", error=error)


def _retried(config: PipelineConfig, run: RunRecord, task: TaskRecord, now: int) -> Notice:
    which = f"on_retry/{task.task_id}/{task.attempts}"
    facts: dict[str, JsonValue] = {"task_id": task.task_id, "attempt": task.attempts, "error": task.reason}
    return _notice(config, run, "on_retry", which, now, status="retrying", **facts)


def _ended(
    config: PipelineConfig,
    run: RunRecord,
    tasks: Mapping[str, TaskRecord],
    change: RunMoved,
    now: int,
    which: str,
) -> Notice:
    failed = [task for task in tasks.values() if task.status is TaskStatus.FAILED]
    facts: dict[str, JsonValue] = {}
    if change.after is PipelineStatus.FAILED:
        first = min(failed, key=lambda task: task.ended_us or 0, default=None)
        facts = {"error": change.reason}
        if first is not None:
            error = f"{change.reason}: {first.reason}"
            facts = {"task_id": first.task_id, "attempt": first.attempts, "error": error}
    event = _ENDS[change.after]
    return _notice(config, run, event, which, now, status=str(change.after), **facts)


def _notice(
    config: PipelineConfig, run: RunRecord, event: NotifyOn, which: str, now: int, **facts: JsonValue
) -> Notice:
    told: dict[str, JsonValue] = {
        "pipeline_id": run.pipeline_id,
        "pipeline_name": config.title,
        "run_id": run.run_id,
        "event": event,
        "created": _iso(run.created_us),
        "at": _iso(now),
        "seconds": round((now - run.created_us) / 1e6, 1),
        **facts,
    }
    if isinstance(error := told.get("error"), str):
        told["error"] = error[:_MOST]
    return Notice(f"{run.run_id}/{which}", run.run_id, run.pipeline_id, run.version, event, now, told, now)


def _iso(at_us: int) -> str:
    return dt.datetime.fromtimestamp(at_us / 1e6, dt.timezone.utc).isoformat(timespec="seconds")


_ENDS: Mapping[PipelineStatus, NotifyOn] = {
    PipelineStatus.SUCCESS: "on_success",
    PipelineStatus.FAILED: "on_failure",
}
