"""Commands that look at what the store knows of pipelines and runs, and the one that asks for a run's end."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from streamcore.cli.command import Command, Globals
from streamcore.cli.pipeline_store import print_cancelled, print_rows, run_of, with_store
from streamcore.errors import BadConfig, did_you_mean

if TYPE_CHECKING:
    from streamcore.metadata.contract import Store
    from streamcore.pipelines.status import RunView


@click.command(cls=Command)
@click.argument("run_id", default="last")
@click.pass_obj
def status(options: Globals, run_id: str) -> None:
    """A run and its tasks. RUN_ID may be abbreviated; `last` is the newest."""
    from streamcore.cli import pipeline_view as view
    from streamcore.cli.console import out
    from streamcore.pipelines.status import view_of

    async def work(store: Store) -> RunView:
        found = await run_of(store, run_id)
        return view_of(found, await store.tasks(found.run_id))

    shown = with_store(options, work)
    if options.json:
        click.echo(json.dumps(view.document(shown)))
    else:
        out().print(view.table(shown))


@click.command("list", cls=Command)
@click.pass_obj
def list_(options: Globals) -> None:
    """The registered pipelines."""
    from streamcore.pipelines.models import PipelineConfig

    async def work(store: Store) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for record in await store.pipelines():
            config = PipelineConfig.model_validate_json(record.config)
            last = await store.runs(record.pipeline_id, limit=1)
            rows.append(
                {
                    "pipeline_id": record.pipeline_id,
                    "version": record.version,
                    "tasks": len(config.tasks),
                    "schedule": config.schedule,
                    "last_run": str(last[0].status) if last else None,
                    "name": config.title,
                }
            )
        return rows

    columns = ("pipeline_id", "version", "tasks", "schedule", "last_run", "name")
    print_rows(options, "pipelines", with_store(options, work), columns)


@click.command(cls=Command)
@click.argument("pipeline_id", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@click.option("--status", "states", multiple=True, metavar="STATUS", help="Only runs in this state.")
@click.pass_obj
def history(options: Globals, pipeline_id: str | None, limit: int, states: tuple[str, ...]) -> None:
    """The newest runs, of all pipelines or of one."""
    from streamcore.cli import pipeline_view as view
    from streamcore.metadata.states import PipelineStatus

    wanted = []
    for state in states:
        known = [one.value for one in PipelineStatus]
        if state not in known:
            hint = did_you_mean(state, known)
            raise BadConfig("no run has this status", where="--status", got=state, allowed=known, fix=hint)
        wanted.append(PipelineStatus(state))

    async def work(store: Store) -> list[dict[str, object]]:
        found = await store.runs(pipeline_id, statuses=wanted, limit=limit)
        return [view.run_row(one) for one in found]

    columns = ("run_id", "pipeline_id", "version", "status", "created", "seconds", "reason")
    print_rows(options, "runs", with_store(options, work), columns)


@click.command(cls=Command)
@click.argument("run_id")
@click.argument("task_id", required=False)
@click.pass_obj
def logs(options: Globals, run_id: str, task_id: str | None) -> None:
    """What the attempts of a run said: of all tasks, or of one."""
    from streamcore.cli import pipeline_view as view

    async def work(store: Store) -> list[dict[str, object]]:
        found = await run_of(store, run_id)
        known = [task.task_id for task in await store.tasks(found.run_id)]
        if task_id is not None and task_id not in known:
            hint = did_you_mean(task_id, known)
            raise BadConfig(f"the run has no task {task_id!r}", allowed=known, fix=hint)
        return [view.attempt_row(one) for one in await store.attempts(found.run_id, task_id)]

    rows = with_store(options, work)
    if options.json:
        click.echo(json.dumps({"attempts": rows}))
    for row in rows if not options.json else []:
        click.echo(click.style(f"{row['task_id']} #{row['attempt']} {row['status']}", bold=True))
        for line in f"{row['log']}{row['error']}".splitlines():
            click.echo(f"  {line}")


@click.command(cls=Command)
@click.argument("run_id")
@click.pass_obj
def cancel(options: Globals, run_id: str) -> None:
    """Ask for the end of a run; whoever executes it stops its tasks within a second."""

    async def work(store: Store) -> dict[str, object]:
        found = await run_of(store, run_id)
        asked = await store.cancel(found.run_id, round(time.time() * 1e6))
        return {"run_id": found.run_id, "cancelled": asked, "status": str(found.status)}

    row = with_store(options, work)
    print_cancelled(options, row, f"run {row['run_id']}", "is being cancelled")
