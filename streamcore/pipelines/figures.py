"""What runs were like, as numbers: a pure function of their records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypedDict

from streamcore.metadata.records import AttemptRecord, RunRecord
from streamcore.metadata.states import AttemptStatus, PipelineStatus


class TaskFigures(TypedDict):
    """A task over the runs looked at. ``duration``: mean seconds of an attempt that succeeded, or nan."""

    attempts: int
    failed_attempts: int
    error_rate: float
    duration: float
    rows: int
    bytes: int


class PipelineFigures(TypedDict):
    """The newest runs of a pipeline. Times are seconds; what there is nothing to tell of is nan.

    ``success_rate``: of the runs that ended, those that were cancelled left out. ``duration`` and
    ``duration_p95``: of those that succeeded. ``throughput``: their rows a second. ``errors``: how many by
    kind, those that were recorded by hand with them.
    """

    pipeline_id: str
    runs: int
    succeeded: int
    failed: int
    cancelled: int
    unfinished: int
    success_rate: float
    duration: float
    duration_p95: float
    throughput: float
    rows: int
    bytes: int
    errors: dict[str, int]
    tasks: dict[str, TaskFigures]


Attempts = Mapping[str, Sequence[AttemptRecord]]
"""By run."""


def figures_of(pipeline_id: str, runs: Sequence[RunRecord], attempts: Attempts) -> PipelineFigures:
    """The figures of *runs* and of all *attempts* at their tasks."""
    states = Counter(run.status for run in runs)
    good, bad = states[PipelineStatus.SUCCESS], states[PipelineStatus.FAILED]
    seconds = sorted(_seconds(run) for run in runs if run.status is PipelineStatus.SUCCESS)
    every = [attempt for run in runs for attempt in attempts.get(run.run_id, ())]
    succeeded = {run.run_id for run in runs if run.status is PipelineStatus.SUCCESS}
    rows = sum(a.rows or 0 for run_id in succeeded for a in attempts.get(run_id, ()) if _good(a))
    return PipelineFigures(
        pipeline_id=pipeline_id,
        runs=len(runs),
        succeeded=good,
        failed=bad,
        cancelled=states[PipelineStatus.CANCELLED],
        unfinished=states[PipelineStatus.QUEUED] + states[PipelineStatus.RUNNING],
        success_rate=_share(good, good + bad),
        duration=_share(sum(seconds), len(seconds)),
        duration_p95=seconds[math.ceil(0.95 * len(seconds)) - 1] if seconds else math.nan,
        throughput=_share(rows, sum(seconds)),
        rows=sum(a.rows or 0 for a in every if _good(a)),
        bytes=sum(a.bytes or 0 for a in every if _good(a)),
        errors=dict(Counter(str(a.status) for a in every if a.ended_us is not None and not _good(a))),
        tasks={name: _task([a for a in every if a.task_id == name]) for name in _names(every)},
    )


def _task(attempts: Sequence[AttemptRecord]) -> TaskFigures:
    good = [attempt for attempt in attempts if _good(attempt)]
    ended = [attempt for attempt in attempts if attempt.ended_us is not None]
    seconds = sum(((a.ended_us or 0) - a.started_us) / 1e6 for a in good)
    return TaskFigures(
        attempts=len(attempts),
        failed_attempts=len(ended) - len(good),
        error_rate=_share(len(ended) - len(good), len(ended)),
        duration=_share(seconds, len(good)),
        rows=sum(attempt.rows or 0 for attempt in good),
        bytes=sum(attempt.bytes or 0 for attempt in good),
    )


def _names(attempts: Sequence[AttemptRecord]) -> list[str]:
    return list(dict.fromkeys(attempt.task_id for attempt in attempts))


def _good(attempt: AttemptRecord) -> bool:
    return attempt.status in (AttemptStatus.SUCCESS, AttemptStatus.SKIPPED)


def _seconds(run: RunRecord) -> float:
    if run.started_us is None or run.ended_us is None:
        return 0.0
    return (run.ended_us - run.started_us) / 1e6


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
