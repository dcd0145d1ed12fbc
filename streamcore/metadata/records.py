"""What the service remembers, as records, and the changes that a run's owner makes to them.

Times are whole microseconds since 1970 in UTC (``_us``); None where there is none yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from pydantic import JsonValue

from streamcore.metadata.notices import Notice
from streamcore.metadata.states import AttemptStatus, PipelineStatus, TaskStatus


@dataclass(frozen=True, slots=True)
class PipelineRecord:
    """A version of a pipeline; ``config`` is its JSON, with references as they were written."""

    pipeline_id: str
    version: int
    config: str = field(repr=False)
    registered_us: int = 0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run of a pipeline.

    ``owner`` executes it until ``lease_until_us``; ``epoch`` grows with each owner, ``changes`` with each
    commit. ``scheduled_us`` is the time that a schedule meant. Of waiting runs the one of the highest
    ``priority`` goes first.
    """

    run_id: str
    pipeline_id: str
    version: int
    status: PipelineStatus
    created_us: int
    started_us: int | None = None
    ended_us: int | None = None
    scheduled_us: int | None = None
    parameters: Mapping[str, JsonValue] = field(default_factory=dict, repr=False)
    priority: int = 0
    reason: str = ""
    owner: str | None = None
    epoch: int = 0
    changes: int = 0
    lease_until_us: int | None = None
    cancel_us: int | None = None


@dataclass(frozen=True, slots=True)
class RunTotals:
    """All runs of a pipeline that are in one state: how many, and what they did together.

    ``seconds``: of those that began and ended. ``rows`` and ``bytes``: of all their tasks.
    """

    pipeline_id: str
    status: PipelineStatus
    runs: int
    seconds: float
    rows: int
    bytes: int
    last_ended_us: int | None


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task in a run.

    ``attempts``: begun in all; ``failures`` and ``lost``: of those since the run was (re-)opened, how many
    failed and how many died with their orchestrator. ``due_us``: when the next attempt may begin.
    ``datasets``: what it has written, by name. ``rows`` and ``bytes``: of the last attempt.
    """

    task_id: str
    status: TaskStatus = TaskStatus.PENDING
    attempts: int = 0
    failures: int = 0
    lost: int = 0
    started_us: int | None = None
    ended_us: int | None = None
    due_us: int | None = None
    rows: int | None = None
    bytes: int | None = None
    reason: str = ""
    datasets: Mapping[str, str | Mapping[str, JsonValue]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt at a task, with what it said."""

    task_id: str
    attempt: int
    status: AttemptStatus
    started_us: int
    ended_us: int | None = None
    rows: int | None = None
    bytes: int | None = None
    error: str = ""
    log: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A change of state, stored in the transaction that made it; ``kind`` is e.g. ``task.running``.

    ``event_id`` grows, though not without gaps, and within a run in the order of the changes.
    """

    event_id: int
    pipeline_id: str
    run_id: str
    at_us: int
    kind: str
    task_id: str | None
    data: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunMoved:
    """The run goes from one state to another."""

    before: PipelineStatus
    after: PipelineStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskMoved:
    """A task goes from the state of ``before`` to ``after``, which holds all of its fields."""

    before: TaskStatus
    after: TaskRecord


@dataclass(frozen=True, slots=True)
class AttemptMoved:
    """An attempt begins (``before`` is None) or ends."""

    before: AttemptStatus | None
    after: AttemptRecord


@dataclass(frozen=True, slots=True)
class Noticed:
    """Somebody is to be told of the changes beside it."""

    notice: Notice


Change: TypeAlias = RunMoved | TaskMoved | AttemptMoved | Noticed


@dataclass(slots=True)
class Claim:
    """The right to change a run, as long as nobody else has claimed it. ``changes`` counts the commits."""

    run_id: str
    owner: str
    epoch: int
    changes: int


@dataclass(frozen=True, slots=True)
class Claimable:
    """A run that waits for an owner, since ``free_us``: it was made then, or its last owner's lease ended."""

    run_id: str
    free_us: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the running attempt at a task is, for people who watch."""

    run_id: str
    task_id: str
    attempt: int
    rows: int | None
    bytes: int | None
    log: str = field(repr=False)
