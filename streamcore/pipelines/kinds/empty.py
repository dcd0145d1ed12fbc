"""A task of nothing: it gathers others, and is over as soon as they are."""

from __future__ import annotations

from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult


async def run(options: Options, context: TaskContext) -> TaskResult:
    """Nothing."""
    return TaskResult()


EMPTY = Kind(Options, run, instant=True)
