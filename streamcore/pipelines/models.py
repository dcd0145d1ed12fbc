"""Pipelines as people write them: ``PipelineConfig`` and ``TaskConfig``, in Python or YAML.

Every field has a default, so that a configuration can be put together piece by piece. What a pipeline can't
run without (an id, tasks, their types and parameters) is asked for when it is registered: see
:mod:`streamcore.pipelines.checks`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from streamcore.durations import duration
from streamcore.errors import BadConfig
from streamcore.metadata.states import PipelineStatus, State, TaskStatus
from streamcore.pipelines.schedules import Catchup

__all__ = [
    "NotificationConfig",
    "NotifyOn",
    "PipelineConfig",
    "PipelineStatus",
    "TaskConfig",
    "TaskStatus",
    "TaskType",
]


class TaskType(State):
    """What a task does. Its parameters are the options of the kind, see docs/pipelines.md."""

    INGESTION = "ingestion"
    TRANSFORMATION = "transformation"
    VALIDATION = "validation"
    QUALITY_REPORT = "quality_report"
    REPLAY = "replay"
    SQL = "sql"
    PYTHON = "python"
    COMMAND = "command"
    NOTIFICATION = "notification"
    SENSOR = "sensor"
    EMPTY = "empty"


def _seconds(value: object) -> object:
    """``"5m"`` as seconds; numbers stay."""
    if not isinstance(value, str) or value.strip().replace(".", "", 1).isdigit():
        return value
    try:
        return duration(value) / dt.timedelta(seconds=1)
    except BadConfig as error:
        raise ValueError(str(error)) from None


Seconds: TypeAlias = Annotated[float, BeforeValidator(_seconds), Field(allow_inf_nan=False)]
"""A number of seconds, or a text such as ``"5m"``."""


def _as_written(value: object) -> object:
    """*value* with models in it, such as rules, as the dictionaries that configurations write."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: _as_written(one) for key, one in value.items()}
    return [_as_written(one) for one in value] if isinstance(value, list | tuple) else value


Parameters: TypeAlias = Annotated[dict[str, JsonValue], BeforeValidator(_as_written)]
NotifyOn: TypeAlias = Literal["on_failure", "on_success", "on_retry", "on_sla_miss"]


class Config(BaseModel):
    """Unknown fields are refused; values are not shown in errors, since they may be secrets."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


class NotificationConfig(Config):
    """Whom to tell, and how. What else is needed depends on the type."""

    model_config = ConfigDict(extra="allow")

    type: str = ""
    """Way of the message, e.g. email or webhook."""


class TaskConfig(Config):
    """One task of a pipeline."""

    task_id: str = ""
    """Name of the task in its pipeline, of letters, digits, _ and -; needed."""
    task_type: TaskType | None = None
    """What the task does; needed."""
    name: str = ""
    """For people; the task_id when empty."""
    description: str = ""
    """For people."""
    depends_on: tuple[str, ...] = ()
    """Tasks that must have ended well before this one begins."""
    parameters: Parameters = Field(default_factory=dict, repr=False)
    """What the type of the task needs, and continue_on_error: true lets dependents run after a failure."""
    retry_count: int = Field(0, ge=0, le=1000)
    """How often it is tried again after a failure."""
    retry_delay: Seconds = Field(10.0, ge=0)
    """Seconds before the first retry."""
    retry_backoff: float = Field(2.0, ge=1, le=10)
    """By how much each further wait is longer than the one before it."""
    retry_max_delay: Seconds = Field(3600.0, ge=0)
    """Longest wait between two attempts, in seconds."""
    retry_jitter: float = Field(0.1, ge=0, le=1)
    """Share of a wait that is added at random at most."""
    timeout: Seconds | None = Field(None, gt=0)
    """Seconds after which an attempt is stopped and counts as failed; no limit when not set."""

    @property
    def continue_on_error(self) -> bool:
        """Whether its failure neither skips its dependents nor fails the run."""
        return self.parameters.get("continue_on_error", False) is True

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.name or self.task_id


class PipelineConfig(Config):
    """A pipeline: tasks and how they depend on each other."""

    pipeline_id: str = ""
    """Name of the pipeline, of letters, digits, _ and -; needed."""
    name: str = ""
    """For people; the pipeline_id when empty."""
    description: str = ""
    """For people."""
    tasks: tuple[TaskConfig, ...] = ()
    """The tasks; at least one is needed."""
    schedule: str | None = None
    """When it runs by itself, as a cron expression or @daily; only on demand when not set."""
    timezone: str = "UTC"
    """Time zone of the schedule, a name of the IANA's list such as Europe/Berlin."""
    catchup: Catchup = "latest"
    """Which firings are made up for when nobody was there: none, the latest, or all."""
    schedule_jitter: Seconds = Field(0.0, ge=0, le=86_400)
    """A firing's run begins up to so many seconds later, always the same for the same firing."""
    schedule_from: dt.datetime | None = None
    """No firing before this; a time without a zone is one of the time zone above."""
    schedule_until: dt.datetime | None = None
    """No firing at this time or later."""
    max_parallel_tasks: int = Field(4, ge=1, le=10_000)
    """How many tasks of a run work at the same time at most."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    """Parameters of runs with their defaults; tasks refer to them by ${param:NAME}."""
    notifications: dict[NotifyOn, NotificationConfig] = Field(default_factory=dict, repr=False)
    """Whom to tell when: on_failure, on_success, on_retry, on_sla_miss."""

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.name or self.pipeline_id

    def task(self, task_id: str) -> TaskConfig:
        """The task of this id; KeyError when there is none."""
        return next(task for task in self.tasks if task.task_id == task_id)
