"""Sends one notification, by the ways that a pipeline's ``notifications`` have.

It is sent at least once, each time with the task's effect_id: an attempt may be lost after the message went
out. That a server can't be reached fails the attempt, and ``retry_count`` says what then. Where the address
is empty nobody is to be told, and the task is skipped.
"""

from __future__ import annotations

import datetime as dt
import time

from pydantic import ConfigDict, Field, JsonValue, ValidationError

from streamcore.errors import BadConfig
from streamcore.pipelines.kinds.contract import Kind, Options, TaskContext, TaskResult, TaskSkipped
from streamcore.pipelines.notifications.channels import (
    Channel,
    channel_of,
    model_of,
    nobody,
    with_defaults,
    wrong,
)
from streamcore.pipelines.notifications.sending import send
from streamcore.pipelines.problems import of_validation
from streamcore.settings import load


class NotificationOptions(Options):
    """A way, and its fields beside it: as in the pipeline's ``notifications``."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="email, webhook or slack.")

    @property
    def channel(self) -> Channel:
        """The way. BadConfig or pydantic's ValidationError when there is none with these fields."""
        return channel_of({"type": self.type, **(self.model_extra or {})})


def check(options: NotificationOptions) -> str | None:
    """The fields must be those of the type."""
    try:
        channel = options.channel
    except BadConfig as error:
        return str(error)
    except ValidationError as error:
        problem = next(of_validation(error, model_of(options.type)))
        return str(problem.error(str(problem.at[-1])))
    needless = {"after", "fold_within"} & channel.model_fields_set
    return f"a task has no {min(needless)}: it is sent once, and at once" if needless else None


async def run(options: NotificationOptions, context: TaskContext) -> TaskResult:
    """Send it."""
    channel = with_defaults(options.channel, load().settings.notifications)
    if nobody(channel):
        raise TaskSkipped("no address is configured: nobody is told")
    for field, error in wrong(channel):
        raise BadConfig(error.what, where=field, allowed=error.allowed, fix=error.fix)
    now = time.time()
    facts: dict[str, JsonValue] = {
        "pipeline_id": context.pipeline_id,
        "pipeline_name": context.pipeline_id,
        "run_id": context.run_id,
        "task_id": context.task_id,
        "attempt": context.attempt,
        "event": "task",
        "status": "running",
        "at": dt.datetime.fromtimestamp(now, dt.timezone.utc).isoformat(timespec="seconds"),
    }
    await send(channel, facts, context.effect_id, now)
    return TaskResult(message=f"sent by {options.type}")


NOTIFICATION = Kind(NotificationOptions, run, check=check)
