"""Which dataset a task reads when it doesn't say so, and what the next one reads of what it has written."""

from __future__ import annotations

import hashlib

from pydantic import JsonValue

from streamcore.errors import BadConfig
from streamcore.pipelines.kinds.contract import Dataset, TaskContext

_OF_SINKS = {"key", "create", "name", "partition_by", "guarantee", "batch_rows"}
"""Keys of a sink's dictionary that mean nothing when it is read."""


def source_of(given: Dataset | None, context: TaskContext) -> Dataset:
    """*given*, or the one dataset that the tasks before have written; BadConfig for none or several."""
    if given is not None:
        return given
    if len(context.upstream) == 1:
        return context.inputs[context.upstream[0]]
    what = "nothing says what it reads: the tasks that it depends on wrote"
    raise BadConfig(
        f"{what} {len(context.upstream)} datasets" if context.upstream else f"{what} none",
        allowed=[f"${{dataset:{name}}}" for name in context.upstream] or None,
        fix="add source_config",
    )


def as_source(destination: Dataset) -> Dataset:
    """The dictionary or URI that reads what was written to *destination*."""
    if isinstance(destination, str):
        return destination
    return {key: value for key, value in destination.items() if key not in _OF_SINKS}


def effect_name(context: TaskContext) -> str:
    """A short name of the task's effect, fit for files and topics; the same in every attempt."""
    return hashlib.sha256(context.effect_id.encode()).hexdigest()[:16]


SourceConfig = str | dict[str, JsonValue]
"""A path, a URI, or a dictionary."""
