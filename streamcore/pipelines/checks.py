"""What is asked of a pipeline before it is registered, and what is said when it is not so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast

from pydantic import JsonValue, ValidationError

from streamcore.errors import BadConfig, did_you_mean
from streamcore.pipelines.graph import cycle_in
from streamcore.pipelines.kinds.contract import Kind, Options
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.notifications.checks import notification_problems
from streamcore.pipelines.problems import Problem, of_validation
from streamcore.pipelines.references import RUN_NAMES, check_environment, filled, has_reference, unfilled
from streamcore.pipelines.schedules import cron_of, schedule_of, zone_of
from streamcore.settings.model import Notifications

Kinds: TypeAlias = Mapping[TaskType, Kind[Any]]
"""What each type of task is."""
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")
"""Ids of pipelines and of tasks."""


def check(config: PipelineConfig, kinds: Kinds, defaults: Notifications | None = None) -> None:
    """BadConfig for the first problem, with the place in *config*."""
    for problem in problems(config, kinds, defaults):
        raise problem.error(_written(config, problem.at))


def problems(
    config: PipelineConfig, kinds: Kinds, defaults: Notifications | None = None
) -> Iterator[Problem]:
    """All that keeps *config* from being registered.

    *defaults*: what the settings say of notifications; None: not known, so nothing is missing.
    """
    yield from _named(("pipeline_id",), "a pipeline_id", config.pipeline_id)
    if not config.tasks:
        yield Problem(("tasks",), "a pipeline needs a task", fix="add tasks=[TaskConfig(…)]")
    yield from _scheduled(config)
    yield from notification_problems(config, defaults)
    seen: set[str] = set()
    for number, task in enumerate(config.tasks):
        at: tuple[str | int, ...] = ("tasks", number)
        yield from _named((*at, "task_id"), "a task_id", task.task_id)
        if task.task_id and task.task_id in seen:
            yield Problem((*at, "task_id"), "two tasks have this task_id", task.task_id, fix="rename one")
        seen.add(task.task_id)
        yield from _typed(at, task, config, kinds)
    yield from _wired(config)


def _named(at: tuple[str | int, ...], what: str, name: str) -> Iterator[Problem]:
    if not name:
        yield Problem(at, f"{what} is missing", fix=f"add {at[-1]}")
    elif not NAME.fullmatch(name):
        yield Problem(at, f"{what} must be 1 to 100 letters, digits, _ and -, and begin with no - or _", name)


def _scheduled(config: PipelineConfig) -> Iterator[Problem]:
    checks: dict[str, Callable[[], object]] = {
        "timezone": lambda: zone_of(config.timezone),
        "schedule": lambda: cron_of(config.schedule) if config.schedule is not None else None,
    }
    for field, check_field in checks.items():
        try:
            check_field()
        except BadConfig as error:
            yield Problem((field,), error.what, error.got, error.allowed, error.fix)
            return
    schedule = schedule_of(config)
    if schedule is None or schedule.from_us is None or schedule.until_us is None:
        return
    if next(schedule.after(schedule.from_us - 1), None) is None:
        fix = "put schedule_until behind the first time that is due"
        yield Problem(("schedule_until",), "the schedule is never due before its end", fix=fix)


def _typed(
    at: tuple[str | int, ...], task: TaskConfig, config: PipelineConfig, kinds: Kinds
) -> Iterator[Problem]:
    if task.task_type is None:
        yield Problem((*at, "task_type"), "a task_type is missing", allowed=tuple(map(str, kinds)))
        return
    if task.task_type not in kinds:
        yield Problem(
            (*at, "task_type"), f"tasks of the type {task.task_type} can't run here", allowed=tuple(kinds)
        )
        return
    names: dict[str, Mapping[str, JsonValue]] = {"param": config.parameters}
    known = {"param": tuple(config.parameters), "run": RUN_NAMES}
    for prefix, name in unfilled(task.parameters):
        if name not in known.get(prefix, (name,)):
            hint = did_you_mean(name, known[prefix]) or (
                f"add {name} with its default to the pipeline's parameters" if prefix == "param" else None
            )
            yield Problem((*at, "parameters"), f"there is no {prefix} {name!r}", None, known[prefix], hint)
            return
    yield from _environment((*at, "parameters"), task.parameters)
    known_now = {
        key: filled(value, names) if not _waits(value) else value for key, value in task.parameters.items()
    }
    yield from _options((*at, "parameters"), kinds[task.task_type], known_now)


def _waits(value: JsonValue) -> bool:
    """Whether *value* refers to what only a run knows."""
    return any(prefix != "param" for prefix, _ in unfilled(value))


def _options(
    at: tuple[str | int, ...], kind: Kind[Options], parameters: Mapping[str, JsonValue]
) -> Iterator[Problem]:
    try:
        options = kind.options.model_validate(parameters)
    except ValidationError as error:
        for problem in of_validation(error, kind.options, at):
            if not has_reference(_at(parameters, problem.at[len(at) :])):
                yield problem
        return
    if said := kind.check(options):
        yield Problem(at, said)


def _at(value: object, at: Iterable[str | int]) -> object:
    for key in at:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
    return value


def _environment(at: tuple[str | int, ...], value: Mapping[str, Any]) -> Iterator[Problem]:
    for key, inner in value.items():
        try:
            check_environment(cast("JsonValue", inner))
        except BadConfig as error:
            yield Problem((*at, key), error.what, allowed=error.allowed, fix=error.fix)


def _wired(config: PipelineConfig) -> Iterator[Problem]:
    names = [task.task_id for task in config.tasks if task.task_id]
    for number, task in enumerate(config.tasks):
        for place, need in enumerate(task.depends_on):
            at = ("tasks", number, "depends_on", place)
            if need == task.task_id:
                yield Problem(at, f"the task {need!r} depends on itself", fix="remove it")
            elif need not in names:
                others = [name for name in names if name != task.task_id]
                hint = did_you_mean(need, others)
                yield Problem(at, f"there is no task {need!r}", None, tuple(others), hint)
    needs = {task.task_id: [n for n in task.depends_on if n != task.task_id] for task in config.tasks}
    if cycle := cycle_in(needs):
        number = next(n for n, task in enumerate(config.tasks) if task.task_id == cycle[0])
        shown = " -> ".join(cycle)
        yield Problem(
            ("tasks", number, "depends_on"),
            f"the tasks wait for each other: {shown}",
            fix="remove one of these dependencies",
        )


def _written(config: PipelineConfig, at: tuple[str | int, ...]) -> str:
    """``pipeline 'p': tasks[1] 'ingest'.parameters.sql``"""
    text = f"pipeline {config.pipeline_id!r}"
    if len(at) > 1 and at[0] == "tasks" and isinstance(at[1], int) and config.tasks[at[1]].task_id:
        text, at = f"{text}, task {config.tasks[at[1]].task_id!r}", at[2:]
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at)
    return f"{text}: {path.lstrip('.')}" if path else text
