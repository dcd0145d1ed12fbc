"""The states of runs, tasks and attempts, and the table of their legal moves.

Every change of a state goes through :func:`check_move`, in the store and in the tests' model of it. What is
not in the table can't happen: a task that has succeeded is never started again, a run that has ended is
opened again only by a re-run.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from streamcore.errors import Permanent


class State(str, Enum):
    """A text that is one of a few; prints as the text."""

    def __str__(self) -> str:
        return str(self.value)


class PipelineStatus(State):
    """Of a run. ``queued``: nobody has begun; the last three are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskStatus(State):
    """Of a task in a run. ``retrying``: waits for its next attempt; the last four are ends."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class AttemptStatus(State):
    """Of one attempt at a task. ``lost``: the orchestrator that had it died or lost its lease."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    LOST = "lost"


RUN_ENDS = frozenset({PipelineStatus.SUCCESS, PipelineStatus.FAILED, PipelineStatus.CANCELLED})
TASK_ENDS = frozenset({TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED})

_R, _T, _A = PipelineStatus, TaskStatus, AttemptStatus
RUN_MOVES: Mapping[PipelineStatus, frozenset[PipelineStatus]] = {
    _R.QUEUED: frozenset({_R.RUNNING, _R.CANCELLED}),
    _R.RUNNING: frozenset({_R.SUCCESS, _R.FAILED, _R.CANCELLED}),
    _R.SUCCESS: frozenset(),
    _R.FAILED: frozenset({_R.QUEUED}),
    _R.CANCELLED: frozenset({_R.QUEUED}),
}
"""From a state to those that may follow it; failed and cancelled to queued is a re-run."""
TASK_MOVES: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    _T.PENDING: frozenset({_T.RUNNING, _T.SUCCESS, _T.SKIPPED, _T.CANCELLED}),
    _T.RUNNING: frozenset({_T.SUCCESS, _T.FAILED, _T.RETRYING, _T.SKIPPED, _T.CANCELLED}),
    _T.RETRYING: frozenset({_T.RUNNING, _T.CANCELLED}),
    _T.SUCCESS: frozenset(),
    _T.FAILED: frozenset({_T.PENDING}),
    _T.SKIPPED: frozenset({_T.PENDING}),
    _T.CANCELLED: frozenset({_T.PENDING}),
}
"""Pending to success: a task of nothing, which is over without an attempt. To pending: a re-run."""
ATTEMPT_MOVES: Mapping[AttemptStatus, frozenset[AttemptStatus]] = {
    _A.RUNNING: frozenset(set(_A) - {_A.RUNNING}),
    **{end: frozenset() for end in _A if end is not _A.RUNNING},
}

StateT = TypeVar("StateT", PipelineStatus, TaskStatus, AttemptStatus)
_MOVES: Mapping[type[State], Mapping[Any, frozenset[Any]]] = {
    PipelineStatus: RUN_MOVES,
    TaskStatus: TASK_MOVES,
    AttemptStatus: ATTEMPT_MOVES,
}


def check_move(before: StateT, after: StateT, what: str) -> None:
    """Permanent when *what* may not go from *before* to *after*."""
    legal = _MOVES[type(before)][before]
    if after not in legal:
        raise Permanent(
            f"{what} can't go from {before} to {after}",
            allowed=sorted(map(str, legal)) or ["nothing: it has ended"],
        )
