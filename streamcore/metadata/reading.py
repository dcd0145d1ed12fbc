"""Rows of the tables of metadata as records."""

from __future__ import annotations

from typing import cast

import orjson

from streamcore.metadata.database import Row
from streamcore.metadata.records import (
    AttemptRecord,
    EventRecord,
    PipelineRecord,
    RunRecord,
    RunTotals,
    TaskRecord,
)
from streamcore.metadata.states import AttemptStatus, PipelineStatus, TaskStatus

PIPELINE = "pipeline_id, version, config, registered_us"
RUN = (
    "run_id, pipeline_id, version, status, created_us, started_us, ended_us, scheduled_us, parameters, "
    "priority, reason, owner, epoch, changes, lease_until_us, cancel_us"
)
TASK = (
    "task_id, status, attempts, failures, lost, started_us, ended_us, due_us, row_count, byte_count, reason, "
    "datasets"
)
ATTEMPT = "task_id, attempt, status, started_us, ended_us, row_count, byte_count, error, log"
EVENT = "event_id, run_id, at_us, kind, task_id, data"


def pipeline_of(row: Row) -> PipelineRecord:
    """From the columns PIPELINE."""
    return PipelineRecord(*row)  # type: ignore[arg-type]


def run_of(row: Row) -> RunRecord:
    """From the columns RUN."""
    values = list(row)
    values[3] = PipelineStatus(values[3])
    values[8] = {} if values[8] == "{}" else orjson.loads(cast("str", values[8]))
    return RunRecord(*values)  # type: ignore[arg-type]


def totals_of(row: Row) -> RunTotals:
    """From a pipeline, a state, how many runs, their microseconds, rows and bytes, and the last end."""
    pipeline_id, status, runs, microseconds, rows, size, last = row
    seconds = cast("int", microseconds) / 1e6
    return RunTotals(pipeline_id, PipelineStatus(status), runs, seconds, rows, size, last)  # type: ignore[arg-type]


def task_of(row: Row) -> TaskRecord:
    """From the columns TASK."""
    values = list(row)
    values[1] = TaskStatus(values[1])
    values[11] = {} if values[11] == "{}" else orjson.loads(cast("str", values[11]))
    return TaskRecord(*values)  # type: ignore[arg-type]


def attempt_of(row: Row) -> AttemptRecord:
    """From the columns ATTEMPT."""
    values = list(row)
    values[2] = AttemptStatus(values[2])
    return AttemptRecord(*values)  # type: ignore[arg-type]


def event_of(row: Row) -> EventRecord:
    """From the columns EVENT."""
    values = list(row)
    values[5] = orjson.loads(cast("str", values[5]))
    return EventRecord(*values)  # type: ignore[arg-type]
