"""A command, without a shell. Its output is the attempt's log; an exit code other than 0 is a failure.

It may be done twice: when the orchestrator dies, the command is killed and begins again elsewhere.
Its environment has ``STREAMCORE_RUN_ID``, ``STREAMCORE_TASK_ID``, ``STREAMCORE_ATTEMPT`` and
``STREAMCORE_EFFECT_ID``, which is the same in every attempt, for those who want to make it once.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from streamcore.errors import Permanent
from streamcore.pipelines.guarded import Guarded, Lifeline
from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult, TaskSkipped
from streamcore.secrets import resolve


class CommandOptions(Options):
    """Which command, and where."""

    command: tuple[str, ...] = Field(
        min_length=1, description="The program and its arguments, one an item; no shell reads them."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Variables besides those of the orchestrator."
    )
    folder: Path | None = Field(None, description="Where it runs; the orchestrator's folder when not set.")
    skip_code: int | None = Field(
        None, ge=1, le=255, description="Exit code that means: there was nothing to do."
    )


async def run(options: CommandOptions, context: TaskContext) -> TaskResult:
    """Run it to its end; cancelled, it is killed with all that it has started."""
    environment = {
        "STREAMCORE_RUN_ID": context.run_id,
        "STREAMCORE_TASK_ID": context.task_id,
        "STREAMCORE_ATTEMPT": str(context.attempt),
        "STREAMCORE_EFFECT_ID": context.effect_id,
        **{name: resolve(value) for name, value in options.environment.items()},
    }
    process = await Guarded.start(
        [resolve(word) for word in options.command],
        context.lifeline or Lifeline(float("inf")),
        environment=environment,
        folder=options.folder,
    )
    code = await process.wait(context.log)
    if code == 0:
        return TaskResult()
    if code == options.skip_code:
        raise TaskSkipped(f"it ended with {code}: nothing to do")
    how = f"by signal {code - 128}" if code > 128 else f"with exit code {code}"
    raise Permanent(f"the command ended {how}", fix="see the attempt's log")


COMMAND = Kind(CommandOptions, run)
