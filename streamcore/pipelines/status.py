"""A run as people and programs see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from streamcore.metadata.records import RunRecord, TaskRecord
from streamcore.metadata.states import PipelineStatus


@dataclass(frozen=True, slots=True)
class RunView:
    """A run and its tasks, by id and in their order. Times are seconds since 1970."""

    run_id: str
    pipeline_id: str
    version: int
    status: PipelineStatus
    reason: str
    created: float
    started: float | None
    ended: float | None
    tasks: Mapping[str, TaskRecord]
    parameters: Mapping[str, JsonValue] = field(repr=False)

    @property
    def seconds(self) -> float | None:
        """How long it took from its first task to its end; None before that."""
        return None if self.started is None or self.ended is None else self.ended - self.started


def view_of(run: RunRecord, tasks: Sequence[TaskRecord]) -> RunView:
    """The view of *run*."""
    return RunView(
        run_id=run.run_id,
        pipeline_id=run.pipeline_id,
        version=run.version,
        status=run.status,
        reason=run.reason,
        created=run.created_us / 1e6,
        started=None if run.started_us is None else run.started_us / 1e6,
        ended=None if run.ended_us is None else run.ended_us / 1e6,
        tasks={task.task_id: task for task in tasks},
        parameters=run.parameters,
    )
