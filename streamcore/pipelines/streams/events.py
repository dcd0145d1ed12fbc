"""Changes of state as a stream: one event each, in its run's order, keyed by the run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
import orjson
import pyarrow as pa

from streamcore.contracts import Records
from streamcore.metadata.records import EventRecord
from streamcore.schema import Event


class PipelineEvent(Event):
    """A change of the state of a run or of one of its tasks; a schema for :meth:`streamcore.Topology.stream`.

    ``event_id`` is unique, and grows within a run. ``kind`` is ``run.`` or ``task.`` and the new state, e.g.
    ``task.failed``; ``before`` is the old one. ``attempt``: of a task, from 1. ``rows`` and ``bytes``: what a
    task that succeeded has moved.
    """

    event_id: int
    pipeline_id: str
    run_id: str
    at: dt.datetime
    kind: str
    task_id: str | None = None
    before: str | None = None
    attempt: int | None = None
    reason: str | None = None
    rows: int | None = None
    bytes: int | None = None


_SAID = ("before", "attempt", "reason", "rows", "bytes")


def records_of(events: Sequence[EventRecord]) -> Records:
    """*events* as JSON records with their runs for keys and their times."""
    return Records(
        values=pa.array([_document(one) for one in events], pa.binary()),
        timestamps=np.array([one.at_us // 1000 for one in events], np.int64),
        keys=pa.array([one.run_id.encode() for one in events], pa.binary()),
    )


def _document(event: EventRecord) -> bytes:
    at = dt.datetime.fromtimestamp(event.at_us / 1e6, dt.timezone.utc)
    document: dict[str, object] = {
        "event_id": event.event_id,
        "pipeline_id": event.pipeline_id,
        "run_id": event.run_id,
        "at": at.isoformat(timespec="microseconds"),
        "kind": event.kind,
    }
    if event.task_id is not None:
        document["task_id"] = event.task_id
    return orjson.dumps(document | {name: event.data[name] for name in _SAID if name in event.data})
