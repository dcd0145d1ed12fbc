"""Rows of the tables of metadata as records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, TypeVar, cast

import orjson
from pydantic import JsonValue

from streamcore.metadata.database import Row
from streamcore.metadata.records import (
    AttemptRecord,
    Claimable,
    EventRecord,
    PipelineRecord,
    RunRecord,
    RunTotals,
    TaskRecord,
)
from streamcore.metadata.states import AttemptStatus, PipelineStatus, TaskStatus

T = TypeVar("T")
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
EVENT = (
    "event_id, (select pipeline_id from streamcore_runs as run where run.run_id = one.run_id), run_id, "
    "at_us, kind, task_id, data"
)
"""Of ``streamcore_events as one``."""
CLAIMABLE = "run_id, coalesce(lease_until_us, created_us)"


def reader(record: Callable[..., T], **read: Callable[[Any], object]) -> Callable[[Row], T]:
    """Makes a *record* of a row whose columns are its fields, in their order; *read* says of some how.

    What a column holds is for the statement to see to: a driver's rows have no types.
    """
    names = list(signature(record).parameters)
    places = [(names.index(name), function) for name, function in read.items()]

    def made(row: Row) -> T:
        values = list(row)
        for place, function in places:
            values[place] = function(values[place])
        return record(*values)

    return made


def mapping(text: str) -> Mapping[str, JsonValue]:
    """What JSON of a mapping says; mostly it is an empty one."""
    return {} if text == "{}" else cast("dict[str, JsonValue]", orjson.loads(text))


def seconds(microseconds: int) -> float:
    """*microseconds* in seconds."""
    return microseconds / 1e6


pipeline_of = reader(PipelineRecord)
run_of = reader(RunRecord, status=PipelineStatus, parameters=mapping)
totals_of = reader(RunTotals, status=PipelineStatus, seconds=seconds)
task_of = reader(TaskRecord, status=TaskStatus, datasets=mapping)
attempt_of = reader(AttemptRecord, status=AttemptStatus)
claimable_of = reader(Claimable)
event_of = reader(EventRecord, data=mapping)
