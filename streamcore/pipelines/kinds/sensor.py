"""Waits for something outside: a file, a row, or a consumer group that has caught up with a topic.

It looks at once and then every ``poll_interval`` seconds, until it is there, the task's ``timeout`` is over,
or ``skip_after`` is: then there is nothing to do, and what depends on it is skipped. A server that does not
answer for the moment is asked again.
"""

from __future__ import annotations

import asyncio
import glob
import os
import time
from pathlib import Path

from pydantic import Field

from streamcore.errors import Transient
from streamcore.pipelines.kinds.contract import Dataset, Kind, Options, TaskContext, TaskResult, TaskSkipped
from streamcore.pipelines.kinds.sql import session_of
from streamcore.pipelines.models import Seconds
from streamcore.secrets import Secret, resolve


class SensorOptions(Options):
    """What is waited for: file; connection_string and sql; or broker, topic and group."""

    file: str | None = Field(None, description="A path or pattern; there when a file matches it.")
    quiet_for: Seconds = Field(
        0.0, ge=0, description="Seconds for which a file must not have changed, so that it is complete."
    )
    connection_string: Secret | None = Field(None, description="A database, as of a task of the type sql.")
    sql: str | None = Field(None, description="A query; there when it gives a row.")
    broker: Secret | None = Field(None, description="kafka://host:port, whose topic is looked at.")
    topic: str | None = Field(None, description="A topic.")
    group: str | None = Field(
        None, description="Its consumer group; there when it has at most max_lag to do."
    )
    max_lag: int = Field(0, ge=0, description="Records of the topic that the group may have before it.")
    poll_interval: Seconds = Field(10.0, gt=0, description="Seconds between two looks.")
    skip_after: Seconds | None = Field(
        None, gt=0, description="Seconds after which the task is skipped; it waits on when not set."
    )


def check(options: SensorOptions) -> str | None:
    """One thing must be waited for, and be named in full."""
    kinds: dict[str, list[object]] = {
        "file": [options.file],
        "a row": [options.connection_string, options.sql],
        "a topic": [options.broker, options.topic, options.group],
    }
    begun = [kind for kind, fields in kinds.items() if any(one is not None for one in fields)]
    if len(begun) != 1:
        return "a sensor waits for one thing: file; connection_string and sql; or broker, topic and group"
    if None in kinds[begun[0]]:
        wanted = "connection_string and sql" if begun[0] == "a row" else "broker, topic and group"
        return f"a sensor of {begun[0]} needs {wanted}"
    return None


async def run(options: SensorOptions, context: TaskContext) -> TaskResult:
    """Look until it is there."""
    look = _file if options.file else _row if options.sql else _lag
    began = time.monotonic()
    said = ""
    while True:
        try:
            found, seen = await look(options, context)
        except Transient as error:
            found, seen = None, str(error)
        if found is not None:
            return found
        if seen != said:
            context.log(seen)
            said = seen
        waited = time.monotonic() - began
        if options.skip_after is not None and waited >= options.skip_after:
            raise TaskSkipped(f"after {options.skip_after:g} s: {seen}")
        await asyncio.sleep(options.poll_interval)


async def _file(options: SensorOptions, context: TaskContext) -> tuple[TaskResult | None, str]:
    pattern = resolve(options.file or "")
    found = await asyncio.to_thread(_quiet_files, pattern, options.quiet_for)
    if not found:
        return None, f"no file matches {pattern}, or it still changes"
    dataset: Dataset = {"type": "file", "file_path": pattern}
    size = sum(size for _, size in found)
    message = f"{len(found)} files" if len(found) > 1 else str(found[0][0])
    return TaskResult(datasets={context.task_id: dataset}, bytes=size, message=message), ""


def _quiet_files(pattern: str, quiet_for: float) -> list[tuple[Path, int]]:
    """The files that match, and their sizes; none when one of them has changed in the last seconds."""
    found = []
    for name in sorted(glob.glob(pattern, recursive=True)):
        try:
            status = os.stat(name)
        except OSError:
            return []  # it is being moved
        if time.time() - status.st_mtime < quiet_for:
            return []
        found.append((Path(name), status.st_size))
    return found


async def _row(options: SensorOptions, context: TaskContext) -> tuple[TaskResult | None, str]:
    assert options.connection_string is not None
    assert options.sql is not None
    async with session_of(options.connection_string, _LOOK_SECONDS) as session:
        rows = await session.rows(options.sql)
    return (TaskResult(rows=len(rows)) if rows else None), "the query gives no row"


async def _lag(options: SensorOptions, context: TaskContext) -> tuple[TaskResult | None, str]:
    from streamcore.systems.kafka import KafkaConnection
    from streamcore.systems.kafka_admin import KafkaAdmin
    from streamcore.transport.kafka_log import KafkaLog

    assert options.broker is not None
    topic, group = options.topic or "", options.group or ""
    connection = KafkaConnection.parse(options.broker.reveal())
    log = KafkaLog(connection)
    try:
        bounds = await log.bounds(topic)
    finally:
        await log.close()
    if not bounds:
        return None, f"there is no topic {topic}"
    async with KafkaAdmin(connection) as admin:
        committed = await admin.committed(group)
    lag = sum(
        max(there.end - committed.get((topic, number), there.start), 0) for number, there in bounds.items()
    )
    said = f"group {group} has {lag} records of {topic} before it"
    return (TaskResult(message=said) if lag <= options.max_lag else None), said


_LOOK_SECONDS = 60.0
"""So long a query may take."""
SENSOR = Kind(SensorOptions, run, check=check)
