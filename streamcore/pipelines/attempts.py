"""One attempt at a task: parameters filled in, its kind run in the loop or in a child, its end as a fact."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import JsonValue, ValidationError

from streamcore.errors import BadConfig, StreamcoreError
from streamcore.metadata.records import Progress, RunRecord
from streamcore.metadata.states import AttemptStatus
from streamcore.pipelines.checks import Kinds
from streamcore.pipelines.children import Nursery
from streamcore.pipelines.deciding import Ended, Plan, RunState
from streamcore.pipelines.guarded import Lifeline
from streamcore.pipelines.kinds.contract import (
    Dataset,
    Kind,
    TaskContext,
    TaskFailed,
    TaskResult,
    TaskSkipped,
)
from streamcore.pipelines.models import TaskConfig
from streamcore.pipelines.problems import of_validation
from streamcore.pipelines.references import Names, filled, resolved
from streamcore.secrets import references

log = logging.getLogger("streamcore.pipelines")
HEAD_BYTES, TAIL_BYTES = 16_384, 49_152
"""What is kept of an attempt's log: its beginning and its end."""


@dataclass(frozen=True, slots=True)
class Means:
    """What attempts of an orchestrator work with."""

    kinds: Kinds
    lifeline: Lifeline
    nursery: Nursery


class AttemptLog:
    """The lines of an attempt; of a long one the beginning and the end."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._head_left, self._tail_size, self._dropped = HEAD_BYTES, 0, 0
        self.changed = False

    def add(self, line: str) -> None:
        """One line more."""
        self.changed = True
        if self._head_left > 0:
            self._head.append(line)
            self._head_left -= len(line) + 1
            return
        self._tail.append(line)
        self._tail_size += len(line) + 1
        while self._tail_size > TAIL_BYTES and len(self._tail) > 1:
            self._tail_size -= len(self._tail.popleft()) + 1
            self._dropped += 1

    def text(self) -> str:
        """All that is kept."""
        gap = [f"… {self._dropped} lines left out …"] if self._dropped else []
        lines = [*self._head, *gap, *self._tail]
        return "".join(f"{line}\n" for line in lines)


class Attempt:
    """An attempt that runs; it ends as one :class:`Ended`, whatever happens."""

    def __init__(self, means: Means, plan: Plan, run: RunRecord, state: RunState, task_id: str) -> None:
        self._means, self._plan, self._run, self._state = means, plan, run, state
        self.task_id, self.number = task_id, state.tasks[task_id].attempts
        self._log, self._rows, self._bytes = AttemptLog(), cast("int | None", None), cast("int | None", None)
        self._moved = False
        self._lapses = means.lifeline.lapses
        self._stopped_as: tuple[AttemptStatus, str] | None = None
        self._work = asyncio.ensure_future(self._result())

    async def ended(self) -> Ended:
        """How it ended; never raises."""
        try:
            result = await asyncio.shield(self._work)
        except asyncio.CancelledError:
            return self._stopped("it was interrupted")
        except TaskSkipped as error:
            return self._as(AttemptStatus.SKIPPED, error.what)
        except (BadConfig, TaskFailed) as error:
            return self._as(AttemptStatus.FAILED, str(error), retry=False)
        except StreamcoreError as error:
            return self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - whatever a task raises is its failure
            self._log.add("".join(traceback.format_exception(error)).rstrip())
            return self._failed(f"{type(error).__name__}: {error}")
        return Ended(self.task_id, AttemptStatus.SUCCESS, result, log=self._log.text())

    def stop(self, status: AttemptStatus, why: str) -> None:
        """End it; it then has ended in *status*. Called again, nothing happens."""
        if self._stopped_as is None:
            self._stopped_as = (status, why)
            self._work.cancel()

    def progress(self) -> Progress | None:
        """How far it is, if that has changed since it was asked."""
        if not (self._moved or self._log.changed):
            return None
        self._moved = self._log.changed = False
        return Progress(
            self._state.run_id, self.task_id, self.number, self._rows, self._bytes, self._log.text()
        )

    def _failed(self, error: str) -> Ended:
        """A failure; but not its own when its guard has ended it, or somebody wanted it to stop."""
        if self._stopped_as is not None:
            return self._stopped(error)
        if self._means.lifeline.lapsed_since(self._lapses):
            return self._as(AttemptStatus.LOST, "the lease was over before it could be renewed")
        return self._as(AttemptStatus.FAILED, error)

    def _stopped(self, otherwise: str) -> Ended:
        return self._as(*(self._stopped_as or (AttemptStatus.LOST, otherwise)))

    def _as(self, status: AttemptStatus, error: str, retry: bool = True) -> Ended:
        result = TaskResult(rows=self._rows, bytes=self._bytes)
        return Ended(self.task_id, status, result, error=error, log=self._log.text(), retry=retry)

    def _report(self, rows: int | None, bytes: int | None) -> None:
        self._rows, self._bytes, self._moved = rows, bytes, True

    async def _result(self) -> TaskResult:
        task = self._plan.tasks[self.task_id]
        kind = self._means.kinds.get(task.task_type) if task.task_type else None
        if kind is None:
            raise BadConfig(f"tasks of the type {task.task_type} can't run here", allowed=self._means.kinds)
        inputs, upstream = self._inputs()
        names = {**self._names(), "dataset": {name: cast("JsonValue", one) for name, one in inputs.items()}}
        options, parameters = _options(kind, task, names)
        context = TaskContext(
            pipeline_id=self._run.pipeline_id,
            run_id=self._run.run_id,
            task_id=self.task_id,
            attempt=self.number,
            inputs=inputs,
            upstream=upstream,
            report=self._report,
            log=self._log.add,
            lifeline=self._means.lifeline,
        )
        if not kind.in_child(options):
            return await kind.run(options, context)
        assert task.task_type is not None
        child = await self._means.nursery.take(kind.ahead)
        return await child.run(task.task_type, parameters, context)

    def _inputs(self) -> tuple[dict[str, Dataset], tuple[str, ...]]:
        """The datasets of all tasks before this one, and the names of those of its own dependencies."""
        found: dict[str, Dataset] = {}
        for task_id in self._plan.graph.order:
            found.update(self._state.tasks[task_id].datasets)
        needs = self._plan.graph.needs[self.task_id]
        return found, tuple(name for need in needs for name in self._state.tasks[need].datasets)

    def _names(self) -> Names:
        run = self._run
        about: dict[str, JsonValue] = {
            "id": run.run_id,
            "pipeline": run.pipeline_id,
            "task": self.task_id,
            "created": _iso(run.created_us),
            "scheduled": _iso(run.scheduled_us if run.scheduled_us is not None else run.created_us),
        }
        return {"param": {**self._plan.config.parameters, **run.parameters}, "run": about}


def _options(kind: Kind[Any], task: TaskConfig, names: Names) -> tuple[Any, Mapping[str, JsonValue]]:
    """The options of an attempt, and the parameters that they were made of.

    References to the environment in a single value are resolved where its field is no text: a text, list or
    mapping keeps them, since they may lead to secrets, for the kind to resolve.
    """
    parameters = cast("dict[str, JsonValue]", filled(task.parameters, names))
    try:
        return kind.options.model_validate(parameters), parameters
    except ValidationError:
        parameters = {
            key: resolved(value) if isinstance(value, str) and references(value) else value
            for key, value in parameters.items()
        }
    try:
        return kind.options.model_validate(parameters), parameters
    except ValidationError as error:
        problem = next(of_validation(error, kind.options))
        where = f"task {task.task_id!r}: {'.'.join(map(str, problem.at))}"
        raise problem.error(where) from None


def _iso(at_us: int) -> str:
    return dt.datetime.fromtimestamp(at_us / 1e6, dt.timezone.utc).isoformat()
