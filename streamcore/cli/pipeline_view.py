"""How pipelines, runs and tasks are shown: tables for people, documents for machines, a live display."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamcore.cli.console import count, duration, err, size
from streamcore.metadata.records import AttemptRecord, RunRecord, TaskRecord
from streamcore.metadata.states import TaskStatus
from streamcore.pipelines.graph import TaskGraph
from streamcore.pipelines.models import PipelineConfig
from streamcore.pipelines.status import RunView

OnView = Callable[[RunView], None]
STYLES: Mapping[str, str] = {
    "success": "green",
    "failed": "red",
    "running": "cyan",
    "retrying": "yellow",
    "skipped": "yellow",
    "cancelled": "yellow",
}
_MARKS = {"success": "✓", "failed": "✗", "running": "▶", "retrying": "↻", "skipped": "-", "cancelled": "-"}
_MOST_TASKS = 40
"""So many tasks the live display has; of more, those that run or failed."""
log = logging.getLogger("streamcore.pipelines")


@contextmanager
def watch(console: Console | None = None) -> Iterator[OnView]:
    """The callback that shows a run while the block runs: live on a terminal, otherwise lines of the log."""
    console = console or err()
    if not console.is_terminal:
        yield LogLines()
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda view: live.update(_live(view), refresh=True)


class LogLines:
    """A line for each task that changes its state."""

    def __init__(self) -> None:
        self._seen: dict[str, TaskStatus] = {}

    def __call__(self, view: RunView) -> None:
        for task in view.tasks.values():
            if self._seen.get(task.task_id, TaskStatus.PENDING) != task.status:
                self._seen[task.task_id] = task.status
                fields: dict[str, object] = {"pipeline": view.pipeline_id, "task": task.task_id}
                fields |= {"attempt": task.attempts} if task.attempts > 1 else {}
                fields |= {"rows": task.rows} if task.rows is not None else {}
                fields |= {"reason": task.reason} if task.reason else {}
                log.info(f"task {task.status}", extra=fields)


def table(view: RunView) -> RenderableType:
    """A run: its head, and a line for each task."""
    head = Text.assemble(
        (view.pipeline_id, "bold"),
        " ",
        (str(view.status), STYLES.get(view.status, "")),
        "" if view.seconds is None else f" in {_seconds(view.seconds)}",
        (f"  run {view.run_id}", "dim"),
    )
    if view.reason:
        head.append(f"\n{view.reason}")
    return Group(head, _tasks(list(view.tasks.values()), time.time()))


def document(view: RunView) -> dict[str, object]:
    """A run as JSON; times are ISO 8601 in UTC, durations seconds."""
    return {
        "run_id": view.run_id,
        "pipeline_id": view.pipeline_id,
        "version": view.version,
        "status": str(view.status),
        "reason": view.reason,
        "created": _iso(round(view.created * 1e6)),
        "seconds": view.seconds,
        "parameters": dict(view.parameters),
        "tasks": [_task_row(task) for task in view.tasks.values()],
    }


def run_row(run: RunRecord) -> dict[str, object]:
    """A run as a row of the history."""
    took = None if run.started_us is None or run.ended_us is None else (run.ended_us - run.started_us) / 1e6
    return {
        "run_id": run.run_id,
        "pipeline_id": run.pipeline_id,
        "version": run.version,
        "status": str(run.status),
        "created": _iso(run.created_us),
        "seconds": took,
        "reason": run.reason,
    }


def attempt_row(attempt: AttemptRecord) -> dict[str, object]:
    """An attempt with its log."""
    return {
        "task_id": attempt.task_id,
        "attempt": attempt.attempt,
        "status": str(attempt.status),
        "started": _iso(attempt.started_us),
        "ended": None if attempt.ended_us is None else _iso(attempt.ended_us),
        "rows": attempt.rows,
        "bytes": attempt.bytes,
        "error": attempt.error,
        "log": attempt.log,
    }


def rows_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> RenderableType:
    """A table of *columns*, which none of *rows* need fill."""
    if not rows:
        return Text("none", style="dim")
    found = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        found.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        found.add_row(*(_cell(column, row.get(column)) for column in columns))
    return found


def tree(config: PipelineConfig, graph: TaskGraph) -> str:
    """The tasks in rounds, each with what it waits for."""
    lines = [config.title]
    for level in graph.levels():
        for task_id in level:
            needs = graph.needs[task_id]
            after = f"  after {', '.join(needs)}" if needs else ""
            lines.append(f"  {task_id} ({config.task(task_id).task_type}){after}")
    return "\n".join(lines)


def mermaid(config: PipelineConfig, graph: TaskGraph) -> str:
    """The graph as a Mermaid flowchart."""
    number = {task_id: f"t{place}" for place, task_id in enumerate(graph.order)}
    lines = ["flowchart LR"]
    lines += [f'  {number[task]}["{task}<br/>{config.task(task).task_type}"]' for task in graph.order]
    lines += [f"  {number[need]} --> {number[task]}" for task in graph.order for need in graph.needs[task]]
    return "\n".join(lines)


def _live(view: RunView) -> RenderableType:
    done = sum(task.ended_us is not None for task in view.tasks.values())
    began = view.started or view.created
    title = f"{view.pipeline_id}  {done}/{len(view.tasks)} tasks  {duration(time.time() - began)}"
    shown = list(view.tasks.values())
    if len(shown) > _MOST_TASKS:
        busy = (TaskStatus.RUNNING, TaskStatus.RETRYING, TaskStatus.FAILED)
        shown = [task for task in shown if task.status in busy][:_MOST_TASKS]
    return Group(Text(title, style="bold"), _tasks(shown, time.time()))


def _tasks(tasks: Sequence[TaskRecord], now: float) -> Table:
    found = Table.grid(padding=(0, 2))
    for _ in range(3):
        found.add_column(no_wrap=True)
    found.add_column(justify="right", no_wrap=True)
    found.add_column(justify="right", no_wrap=True)
    found.add_column(overflow="fold")
    for task in tasks:
        style = STYLES.get(task.status, "dim")
        tries = f" (attempt {task.attempts})" if task.attempts > 1 else ""
        found.add_row(
            Text(f"  {_MARKS.get(task.status, '·')}", style=style),
            Text(task.task_id),
            Text(f"{task.status}{tries}", style=style),
            _took(task, now),
            _amount(task),
            Text(task.reason, style="dim"),
        )
    return found


def _took(task: TaskRecord, now: float) -> str:
    if task.started_us is None:
        return ""
    return _seconds((task.ended_us / 1e6 if task.ended_us is not None else now) - task.started_us / 1e6)


def _amount(task: TaskRecord) -> str:
    parts = [f"{count(task.rows)} rows"] if task.rows is not None else []
    parts += [size(task.bytes)] if task.bytes is not None else []
    return ", ".join(parts)


def _task_row(task: TaskRecord) -> dict[str, object]:
    return {
        "task_id": task.task_id,
        "status": str(task.status),
        "attempts": task.attempts,
        "rows": task.rows,
        "bytes": task.bytes,
        "reason": task.reason,
        "seconds": None
        if task.started_us is None or task.ended_us is None
        else (task.ended_us - task.started_us) / 1e6,
        "datasets": sorted(task.datasets),
    }


def _cell(column: str, value: object) -> Text:
    if value is None:
        return Text("")
    if column in ("status", "last_run"):
        return Text(str(value), style=STYLES.get(str(value), ""))
    if column == "seconds" and isinstance(value, float):
        return Text(_seconds(value))
    return Text(str(value)[:12] if column == "run_id" else str(value))


def _seconds(seconds: float) -> str:
    return f"{max(seconds, 0.0):.1f} s" if seconds < 60 else duration(seconds)


def _iso(at_us: int) -> str:
    return dt.datetime.fromtimestamp(at_us / 1e6, dt.timezone.utc).isoformat(timespec="seconds")
