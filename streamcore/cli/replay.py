"""``streamcore replay``: files and other bounded sources through a topology, to their end."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamcore.cli.command import (
    INTERRUPTED,
    Command,
    Globals,
    broker_options,
    broker_settings,
    same_broker,
)
from streamcore.errors import BadConfig

if TYPE_CHECKING:
    from streamcore.contracts import BoundedSource
    from streamcore.progress import OnProgress, Summary
    from streamcore.runtime.replay import ReplayOptions
    from streamcore.topology import Topology

    Way = Callable[
        [Topology, dict[str, BoundedSource], ReplayOptions, OnProgress, asyncio.Event], Awaitable[Summary]
    ]


@click.command(cls=Command)
@click.argument("module")
@click.option(
    "--from",
    "sources",
    multiple=True,
    required=True,
    metavar="STREAM=PATH|URI",
    help="What a stream reads; may be repeated.",
)
@broker_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read N rows of each stream at most.")
@click.option("--dry-run", is_flag=True, help="Print what would be written; write and remember nothing.")
@click.option("--again", is_flag=True, help="From the start, although it was finished or interrupted before.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="X times as fast as the event times.  [default: as fast as it goes]",
)
@click.option("--wait", is_flag=True, help="With Kafka: until the workers have committed all of it.")
@click.option("--isolate", is_flag=True, help="With Kafka: on topics of its own, worked off in this process.")
@click.pass_obj
def replay(
    options: Globals,
    module: str,
    sources: tuple[str, ...],
    broker: str | None,
    state_dir: Path | None,
    limit: int | None,
    dry_run: bool,
    again: bool,
    speed: float | None,
    wait: bool,
    isolate: bool,
) -> int:
    """Run a topology over files and other sources that end.

    MODULE is topologies.flights, a path, or module:variable. With --broker kafka://… the rows go into the
    streams' topics, for the workers that run there. A replay that was stopped goes on where it was; one
    that is finished says so.
    """
    settings = options.settings(broker_settings(broker, state_dir)).settings
    with _loading(module):
        from batch_adapters.catalogue import open_source
        from streamcore.cli.sources import by_stream
        from streamcore.observability.logs import configure
        from streamcore.runtime.loading import load_topology
        from streamcore.runtime.replay import ReplayOptions

        configure(level=settings.log.level, format=settings.log.format)
        way = _way(settings.broker.url, wait, isolate)
        topology = load_topology(module)
        bound = by_stream(topology, sources, open_source)
        runs = _in_runs(settings.broker.url, bound, limit, speed, wait, isolate)
    how = ReplayOptions(settings=settings, limit=limit, again=again, speed=speed)
    if dry_run:
        _preview(options, topology, bound, how)
        return 0
    summary = asyncio.run(_run(topology, bound, how, runs or way))
    _show(options, summary, _next(summary, module, same_broker(broker, state_dir), runs is not None))
    return INTERRUPTED if summary.status == "interrupted" else 0


@contextmanager
def _loading(module: str) -> Iterator[None]:
    """A note on the terminal while polars, Faust and the module are imported: that takes a second."""
    shown = sys.stderr.isatty()
    if shown:
        click.echo(f"loading {module} …", nl=False, err=True)
    try:
        yield
    finally:
        if shown:
            click.echo("\r\x1b[2K", nl=False, err=True)


def _way(broker: str, wait: bool, isolate: bool) -> Way:
    """How to replay: embedded, into the workers' topics, or on topics of its own."""
    if wait and isolate:
        raise BadConfig(
            "--wait and --isolate exclude each other",
            where="--wait",
            fix="--isolate works in this process and waits by itself",
        )
    if broker == "embedded":
        if wait or isolate:
            raise BadConfig(
                "only a replay into Kafka has workers to wait for or topics to isolate",
                where="--wait" if wait else "--isolate",
                fix="give --broker kafka://host:port, or leave it away",
            )
        from streamcore.runtime.replay import replay as embedded

        return embedded
    from streamcore.runtime.feeding import feed, feed_isolated

    return feed_isolated if isolate else partial(feed, wait=wait)


def _in_runs(
    broker: str,
    sources: dict[str, BoundedSource],
    limit: int | None,
    speed: float | None,
    wait: bool,
    isolate: bool,
) -> Way | None:
    """How to replay what is new in *sources*; None where they are read as a whole."""
    from streamcore.runtime.live import catch_up, changes_of, feed_new

    if not (changes := changes_of(sources)):
        return None
    given = {"--limit": limit, "--speed": speed, "--wait": wait, "--isolate": isolate}
    for option, value in given.items():
        if value:
            raise BadConfig(
                f"{option} does not go with mark=",
                where=option,
                fix="a run reads all that is new since the last one; leave one of the two away",
            )
    run = catch_up if broker == "embedded" else feed_new
    return lambda topology, _, how, on_progress, stop: run(topology, changes, how, on_progress, stop)


async def _run(
    topology: Topology, sources: dict[str, BoundedSource], how: ReplayOptions, way: Way
) -> Summary:
    from streamcore.cli.watch import watch
    from streamcore.runtime.signals import stop_on_signals

    with watch(topology.name) as on_progress:
        return await way(topology, sources, how, on_progress, stop_on_signals())


def _preview(
    options: Globals, topology: Topology, sources: dict[str, BoundedSource], how: ReplayOptions
) -> None:
    from streamcore.cli import preview as view
    from streamcore.cli.console import out
    from streamcore.runtime.replay import preview

    found = preview(topology, sources, how)
    if options.json:
        click.echo(json.dumps(view.document(topology.name, found)))
    else:
        view.show(out(), topology.name, found)


def _show(options: Globals, summary: Summary, commands: list[str]) -> None:
    from streamcore.cli import summary as view
    from streamcore.cli.console import out

    if options.json:
        click.echo(json.dumps(view.document(summary, commands)))
    else:
        view.show(out(), summary, commands)


def _next(summary: Summary, module: str, place: str, in_runs: bool) -> list[str]:
    """What to do now, as commands; *place* are the options that name the broker.

    *in_runs*: what was read is what was new.
    """
    if summary.status == "interrupted":
        return [f"{_this_command()}   # goes on where it stopped"]
    if summary.status == "already finished":
        return [f"{_this_command()} --again"]
    if summary.progress.dead_letters:
        return [f"streamcore dlq list {summary.topology}{place}"]
    if summary.progress.late:
        return []  # workers refuse windows
    if in_runs:
        return [f"{_this_command(without='--again')}   # reads what is new by then"]
    return [f"streamcore worker {module}{place or ' --broker kafka://localhost:9092'}"]


def _this_command(without: str = "") -> str:
    from streamcore.secrets import mask_url

    return shlex.join(["streamcore", *(mask_url(text) for text in sys.argv[1:] if text != without)])
