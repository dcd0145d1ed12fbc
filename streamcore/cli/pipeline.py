"""``streamcore pipeline``: check, register, run and look at pipelines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamcore.cli.command import (
    INTERRUPTED,
    Command,
    Globals,
    Group,
    broker_options,
    broker_settings,
    suggest,
)
from streamcore.cli.pipeline_files import files_of, of_file, read
from streamcore.cli.pipeline_metrics import metrics
from streamcore.cli.pipeline_parameters import Parameter
from streamcore.cli.pipeline_runs import cancel, history, list_, logs, status
from streamcore.cli.pipeline_store import print_rows, registered, run_of, with_store

if TYPE_CHECKING:
    from streamcore.pipelines.orchestrator import PipelineOrchestrator
    from streamcore.pipelines.status import RunView

T = TypeVar("T")


@click.group(cls=Group)
def pipeline() -> None:
    """Check, register, run and look at pipelines.

    Pipelines are files in config/pipelines. Runs are kept in .streamcore/metadata.db, or where metadata.url
    says.
    """


@pipeline.command(cls=Command)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.pass_obj
def validate(options: Globals, files: tuple[Path, ...]) -> int:
    """Check pipeline files: all of config/pipelines, or FILES. Says all that is wrong, with its place."""
    from streamcore.pipelines.kinds.catalogue import KINDS
    from streamcore.pipelines.yaml import errors_in

    found = [(path, list(errors_in(path, KINDS))) for path in files_of(files)]
    if options.json:
        shown = [
            {"file": str(path), "errors": [{"what": e.what, "where": e.where, "fix": e.fix} for e in errors]}
            for path, errors in found
        ]
        click.echo(json.dumps({"files": shown}))
    for path, errors in found if not options.json else []:
        click.echo(f"{path}: {'ok' if not errors else f'{len(errors)} wrong'}")
        for error in errors:
            click.echo(f"  {error}")
    return 2 if any(errors for _, errors in found) else 0


@pipeline.command(cls=Command)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.pass_obj
def register(options: Globals, files: tuple[Path, ...]) -> None:
    """Register pipeline files: all of config/pipelines, or FILES. What has changed is a new version."""
    configs = [read(path) for path in files_of(files)]

    async def work(orchestrator: PipelineOrchestrator) -> list[dict[str, object]]:
        found = [await orchestrator.register_pipeline(config) for config in configs]
        return [{"pipeline_id": one.pipeline_id, "version": one.version} for one in found]

    print_rows(
        options,
        "pipelines",
        _with_orchestrator(options, work),
        ("pipeline_id", "version"),
    )


@pipeline.command(cls=Command)
@click.argument("name")
@click.option(
    "--param", "parameters", multiple=True, type=Parameter(), metavar="NAME=VALUE", help="Of this run."
)
@click.option("--queue", is_flag=True, help="Leave the run to `streamcore pipeline worker`.")
@click.pass_obj
def run(options: Globals, name: str, parameters: tuple[tuple[str, Any], ...], queue: bool) -> int:
    """Run a pipeline to its end in this process: a file, or the id of a registered one.

    Ctrl-C cancels the run; `streamcore pipeline rerun` goes on with it.
    """
    config = of_file(name)

    async def work(orchestrator: PipelineOrchestrator) -> RunView:
        if config is not None:
            await orchestrator.register_pipeline(config)
        pipeline_id = config.pipeline_id if config is not None else name
        run_id = await orchestrator.trigger_pipeline(pipeline_id, parameters=dict(parameters), queue=queue)
        return await _watched(orchestrator, run_id, wait=not queue)

    return _ended(options, _with_orchestrator(options, work))


@pipeline.command(cls=Command)
@click.argument("run_id")
@click.pass_obj
def rerun(options: Globals, run_id: str) -> int:
    """Go on with a failed or cancelled run: what has not succeeded is done again."""

    async def work(orchestrator: PipelineOrchestrator) -> RunView:
        found = await run_of(orchestrator.store, run_id)
        await orchestrator.rerun(found.run_id)
        return await _watched(orchestrator, found.run_id)

    return _ended(options, _with_orchestrator(options, work))


@pipeline.command(cls=Command)
@broker_options
@click.option("--port", type=int, metavar="PORT", help="Of /metrics and /healthz; 0 is off.  [default: 8000]")
@click.pass_obj
def worker(options: Globals, broker: str | None, state_dir: Path | None, port: int | None) -> int:
    """Execute the runs that are queued, and those that others left behind, until stopped.

    On Kafka the workers share the runs by a consumer group, take commands from the topic pipelines.commands
    and publish what happens to pipelines.events.
    """
    given = {**broker_settings(broker, state_dir), "http.port": ("--port", port)}
    settings = options.settings(given).settings
    from streamcore.pipelines.worker import work
    from streamcore.runtime.worker import run_until_told

    return run_until_told(settings, lambda stop: work(settings, stop))


@click.command(cls=Command)
@click.argument("name")
@click.option("--mermaid", is_flag=True, help="As a Mermaid flowchart.")
@click.pass_obj
def graph(options: Globals, name: str, mermaid: bool) -> None:
    """Which task waits for which, of a file or a registered pipeline."""
    from streamcore.cli import pipeline_view as view
    from streamcore.pipelines.graph import graph_of

    config = of_file(name) or with_store(options, lambda store: registered(store, name))
    found = graph_of(config.tasks)
    if options.json:
        click.echo(json.dumps({"order": found.order, "needs": found.needs}))
    else:
        click.echo(view.mermaid(config, found) if mermaid else view.tree(config, found))


@click.command(cls=Command)
def schema() -> None:
    """The JSON schema of pipeline files, for editors."""
    from streamcore.pipelines.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


for command in (status, list_, history, logs, cancel, graph, metrics, schema):
    pipeline.add_command(command)


# ---------------------------------------------------------------- what they share


async def _watched(orchestrator: PipelineOrchestrator, run_id: str, wait: bool = True) -> RunView:
    """The run when it has ended, shown meanwhile; cancelled by Ctrl-C or SIGTERM."""
    from streamcore.cli.pipeline_view import watch
    from streamcore.runtime.signals import stop_on_signals

    stop = stop_on_signals()
    with watch() as show:
        while True:
            view = await orchestrator.get_pipeline_status(run_id)
            assert view is not None
            show(view)
            if not wait or view.ended is not None:
                return view
            if stop.is_set():
                await orchestrator.cancel(run_id)
            await asyncio.sleep(0.1)


def _with_orchestrator(options: Globals, work: Callable[[PipelineOrchestrator], Awaitable[T]]) -> T:
    from streamcore.observability.logs import configure
    from streamcore.pipelines.orchestrator import PipelineOrchestrator

    settings = options.settings().settings
    configure(level=settings.log.level, format=settings.log.format)

    async def main() -> T:
        async with PipelineOrchestrator(settings=settings, take_up=False) as orchestrator:
            return await work(orchestrator)

    return asyncio.run(main())


def _ended(options: Globals, view: RunView) -> int:
    """Show how a run ended; 0 when it succeeded or is queued, 1 when it failed, 130 when it was cancelled."""
    from streamcore.cli import pipeline_view
    from streamcore.cli.console import out

    if options.json:
        click.echo(json.dumps(pipeline_view.document(view)))
    else:
        out().print(pipeline_view.table(view))
        if view.status in ("failed", "cancelled"):
            suggest(f"streamcore pipeline logs {view.run_id[:8]}")
            suggest(f"streamcore pipeline rerun {view.run_id[:8]}")
        elif view.ended is None:
            suggest("streamcore pipeline worker")
    return {"failed": 1, "cancelled": INTERRUPTED}.get(view.status, 0)
