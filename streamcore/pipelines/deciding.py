"""What happens next in a run: a pure function of the pipeline, the run's state and the time.

The orchestrator holds a :class:`RunState`, asks :func:`decide` whenever something has happened or is due,
stores the changes, and does what they say. Nothing here waits, reads a clock, or draws a number: the jitter
of a retry is a hash of the run, the task and the attempt.

A task begins when all that it depends on has ended well: in success, or in a failure that it may
``continue_on_error``. It is skipped, with the reason, when one of them failed, was skipped or cancelled. A
run fails when a task failed that may not; it is over when all tasks are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from streamcore.metadata.records import AttemptMoved, AttemptRecord, Change, RunMoved, TaskMoved, TaskRecord
from streamcore.metadata.states import RUN_ENDS, TASK_ENDS, AttemptStatus, PipelineStatus, TaskStatus
from streamcore.pipelines.graph import TaskGraph, graph_of
from streamcore.pipelines.kinds.contract import Dataset, TaskResult
from streamcore.pipelines.models import PipelineConfig, TaskConfig

LOST_LIMIT = 5
"""So often an attempt may be lost with its orchestrator before the task counts as what ends it."""
_SECOND = 1_000_000


@dataclass(frozen=True)
class Plan:
    """A pipeline as the core needs it. ``instant``: tasks that are over as soon as their turn has come."""

    config: PipelineConfig
    graph: TaskGraph
    tasks: Mapping[str, TaskConfig]
    instant: frozenset[str] = frozenset()

    @staticmethod
    def of(config: PipelineConfig, instant: Iterable[str] = ()) -> Plan:
        """The plan of a pipeline that was checked."""
        tasks = {task.task_id: task for task in config.tasks}
        return Plan(config, graph_of(config.tasks), tasks, frozenset(instant))


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run is. ``cancel``: somebody wants it to end."""

    run_id: str
    status: PipelineStatus
    tasks: Mapping[str, TaskRecord]
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended. ``retry``: whether trying again can help. ``error`` is the reason.

    ``counts``: whether a lost attempt may be the task's own fault.
    """

    task_id: str
    status: AttemptStatus
    result: TaskResult = field(default_factory=TaskResult)
    error: str = ""
    log: str = field(default="", repr=False)
    retry: bool = True
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Stop:
    """A running attempt is to be ended, and then to be told as :class:`Ended` with this status and error."""

    task_id: str
    status: AttemptStatus
    error: str


@dataclass(slots=True)
class Decision:
    """``state`` after ``changes``; ``start``: tasks whose attempts begin; ``stop``: what is to be ended.

    Who is asked to stop something twice has stopped it already. ``wake_us``: when to ask again though nothing
    has happened; None: not by itself.
    """

    state: RunState
    changes: list[Change] = field(default_factory=list)
    start: list[str] = field(default_factory=list)
    stop: list[Stop] = field(default_factory=list)
    wake_us: int | None = None


def decide(plan: Plan, state: RunState, ended: Iterable[Ended], now: int, *, begin: bool = True) -> Decision:
    """What follows from the attempts that *ended* and from the time *now*, in microseconds.

    Without *begin* nothing is started: the run is about to be handed over.
    """
    if state.status in RUN_ENDS:
        return Decision(state)
    work = _Work(plan, state, now, begin)
    if state.status is PipelineStatus.QUEUED and not state.cancel:
        work.move_run(PipelineStatus.RUNNING)
    for one in ended:
        work.end(one)
    if state.cancel:
        work.cancel()
    work.advance()
    return work.decision()


def lost(state: RunState) -> list[Ended]:
    """All running attempts of a run that was taken over: they died with its former owner."""
    return [
        Ended(task.task_id, AttemptStatus.LOST, error="the orchestrator that had it died or lost its lease")
        for task in state.tasks.values()
        if task.status is TaskStatus.RUNNING
    ]


def to_reopen(tasks: Iterable[TaskRecord]) -> list[str]:
    """The tasks of an ended run that a re-run does again: all that did not succeed."""
    return [task.task_id for task in tasks if task.status is not TaskStatus.SUCCESS]


def retry_delay(task: TaskConfig, run_id: str, failures: int) -> float:
    """Seconds to wait after the n-th failure (1 …): exponential, with a jitter that is the same each time."""
    wait = min(task.retry_delay * task.retry_backoff ** (failures - 1), task.retry_max_delay)
    drawn = hashlib.sha256(f"{run_id}/{task.task_id}/{failures}".encode()).digest()[:8]
    return wait * (1 + task.retry_jitter * int.from_bytes(drawn, "big") / 2**64)


class _Work:
    """The state under way; every change of it is noted."""

    def __init__(self, plan: Plan, state: RunState, now: int, begin: bool) -> None:
        self._plan, self._now, self._may_begin = plan, now, begin
        self._run, self._status, self._cancel = state.run_id, state.status, state.cancel
        self._tasks = dict(state.tasks)
        self._decision = Decision(state)
        self._running = sum(task.status is TaskStatus.RUNNING for task in self._tasks.values())

    def decision(self) -> Decision:
        """All that was noted, and when to look again."""
        done = self._decision
        done.state = RunState(self._run, self._status, self._tasks, self._cancel)
        done.wake_us = min(self._due(), default=None)
        return done

    def _due(self) -> Iterator[int]:
        """When retries and time-outs are due that are not yet."""
        room = self._running < self._plan.config.max_parallel_tasks
        for task in self._tasks.values():
            if task.status is TaskStatus.RETRYING and room and task.due_us is not None:
                yield task.due_us
            elif task.status is TaskStatus.RUNNING:
                deadline = self._deadline(task)
                if deadline is not None and deadline > self._now:
                    yield deadline

    def _deadline(self, task: TaskRecord) -> int | None:
        timeout = self._plan.tasks[task.task_id].timeout
        return None if timeout is None else (task.started_us or 0) + round(timeout * _SECOND)

    def move_run(self, status: PipelineStatus, reason: str = "") -> None:
        self._decision.changes.append(RunMoved(self._status, status, reason))
        self._status = status

    def end(self, one: Ended) -> None:
        """The running attempt at a task is over."""
        task = self._tasks[one.task_id]
        if task.status is not TaskStatus.RUNNING:
            return
        rows, size = one.result.rows, one.result.bytes
        attempt = AttemptRecord(
            one.task_id, task.attempts, one.status, 0, self._now, rows, size, one.error, one.log
        )
        self._decision.changes.append(AttemptMoved(AttemptStatus.RUNNING, attempt))
        self._running -= 1
        task = replace(task, rows=rows, bytes=size)
        if one.status is AttemptStatus.SUCCESS:
            datasets = one.result.datasets
            self._move(task, TaskStatus.SUCCESS, one.result.message, datasets=datasets)
        elif one.status is AttemptStatus.SKIPPED:
            self._move(task, TaskStatus.SKIPPED, one.error)
        elif one.status is AttemptStatus.CANCELLED or self._cancel:
            self._move(task, TaskStatus.CANCELLED, one.error or "the run was cancelled")
        elif one.status is AttemptStatus.LOST:
            self._lost(task, one)
        else:
            self._failed(task, one)

    def _failed(self, task: TaskRecord, one: Ended) -> None:
        config = self._plan.tasks[one.task_id]
        task = replace(task, failures=task.failures + 1)
        if one.retry and task.failures <= config.retry_count:
            wait = round(retry_delay(config, self._run, task.failures) * _SECOND)
            self._move(task, TaskStatus.RETRYING, one.error, due_us=self._now + wait)
        else:
            self._move(task, TaskStatus.FAILED, one.error)

    def _lost(self, task: TaskRecord, one: Ended) -> None:
        """Not the task's fault, up to a point: it begins again at once, and retry_count doesn't matter."""
        task = replace(task, lost=task.lost + one.counts)
        if task.lost < LOST_LIMIT:
            self._move(task, TaskStatus.RETRYING, one.error, due_us=self._now)
        else:
            reason = f"{task.lost} attempts were lost with their orchestrator: does this task end it?"
            self._move(task, TaskStatus.FAILED, reason)

    def cancel(self) -> None:
        """Nothing begins any more; what runs is to be stopped."""
        for task in list(self._tasks.values()):
            if task.status is TaskStatus.RUNNING:
                stop = Stop(task.task_id, AttemptStatus.CANCELLED, "the run was cancelled")
                self._decision.stop.append(stop)
            elif task.status not in TASK_ENDS:
                self._move(task, TaskStatus.CANCELLED, "the run was cancelled")

    def advance(self) -> None:
        """Skip what can't run, begin what can, and finish the run when all is over.

        In the order of the graph, so one round settles all: what a task waits for stands before it.
        """
        for task_id in self._plan.graph.order:
            task = self._tasks[task_id]
            if task.status is TaskStatus.PENDING:
                self._consider(task)
            elif task.status is TaskStatus.RETRYING and (task.due_us or 0) <= self._now:
                self._begin(task)
            elif task.status is TaskStatus.RUNNING:
                self._time_out(task)
        if all(task.status in TASK_ENDS for task in self._tasks.values()):
            self._finish()

    def _time_out(self, task: TaskRecord) -> None:
        deadline = self._deadline(task)
        if deadline is not None and deadline <= self._now and not self._cancel:
            error = f"it took longer than {self._plan.tasks[task.task_id].timeout:g} s"
            self._decision.stop.append(Stop(task.task_id, AttemptStatus.TIMED_OUT, error))

    def _consider(self, task: TaskRecord) -> None:
        for need in self._plan.graph.needs[task.task_id]:
            before = self._tasks[need]
            if before.status not in TASK_ENDS:
                return
            if not self._ended_well(before):
                self._move(task, TaskStatus.SKIPPED, f"{need} {_PAST[before.status]}")
                return
        if task.task_id in self._plan.instant:
            self._move(replace(task, started_us=self._now), TaskStatus.SUCCESS, "")
        else:
            self._begin(task)

    def _ended_well(self, task: TaskRecord) -> bool:
        tolerated = task.status is TaskStatus.FAILED and self._plan.tasks[task.task_id].continue_on_error
        return task.status is TaskStatus.SUCCESS or tolerated

    def _begin(self, task: TaskRecord) -> None:
        if self._running >= self._plan.config.max_parallel_tasks or not self._may_begin:
            return
        self._running += 1
        attempt = task.attempts + 1
        begun = replace(
            task, attempts=attempt, started_us=self._now, due_us=None, rows=None, bytes=None, ended_us=None
        )
        self._move(begun, TaskStatus.RUNNING, "")
        new = AttemptRecord(task.task_id, attempt, AttemptStatus.RUNNING, self._now)
        self._decision.changes.append(AttemptMoved(None, new))
        self._decision.start.append(task.task_id)

    def _move(
        self,
        task: TaskRecord,
        status: TaskStatus,
        reason: str,
        *,
        due_us: int | None = None,
        datasets: Mapping[str, Dataset] | None = None,
    ) -> None:
        ended = self._now if status in TASK_ENDS else None
        after = replace(task, status=status, reason=reason, due_us=due_us, ended_us=ended)
        if datasets:
            after = replace(after, datasets=datasets)
        self._decision.changes.append(TaskMoved(task.status, after))
        self._tasks[task.task_id] = after

    def _finish(self) -> None:
        failed = [
            task.task_id
            for task in self._tasks.values()
            if task.status is TaskStatus.FAILED and not self._ended_well(task)
        ]
        cancelled = [t.task_id for t in self._tasks.values() if t.status is TaskStatus.CANCELLED]
        if cancelled and self._cancel:
            self.move_run(PipelineStatus.CANCELLED, "cancelled on request")
        elif failed or cancelled:
            self.move_run(PipelineStatus.FAILED, f"failed: {_few(failed or cancelled)}")
        else:
            self.move_run(PipelineStatus.SUCCESS)


_PAST = {
    TaskStatus.FAILED: "failed",
    TaskStatus.SKIPPED: "was skipped",
    TaskStatus.CANCELLED: "was cancelled",
}


def _few(names: list[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
