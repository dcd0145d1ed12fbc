"""``streamcore connect``: which connectors there are, whether one reaches its data, and how that looks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from streamcore.cli.command import Command, Globals, Group, suggest

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")


@click.group(cls=Group)
def connect() -> None:
    """List connectors, try one, look at its first rows."""


@connect.command("list", cls=Command)
@click.pass_obj
def list_(options: Globals) -> None:
    """List all connectors and what each can do."""
    from streamcore.cli import connectors
    from streamcore.cli.console import out

    sources, live, sinks = connectors.sources(), connectors.live(), connectors.sinks()
    if options.json:
        document = {
            "sources": [row._asdict() for row in sources],
            "live": [row._asdict() for row in live],
            "sinks": [row._asdict() for row in sinks],
        }
        click.echo(json.dumps(document))
        return
    table = _table("source", "written", "in parts", "goes on", "knows columns", "needs")
    for source in sources:
        abilities = [_mark(able) for able in (source.splits, source.resumes, source.columns)]
        needs = "" if source.needs is None else f"streamcore[{source.needs}]"
        table.add_row(source.name, " ".join(source.uris), *abilities, needs + ", missing" * source.missing)
    out().print(table)
    click.echo()
    table = _table("source without an end", "written", "option")
    for way in live:
        table.add_row(way.name, " ".join(way.uris), f"{way.by}=" if way.by else "")
    out().print(table)
    click.echo()
    table = _table("sink", "written", "exactly once", "updates", "deletes")
    for sink in sinks:
        abilities = [sink.exactly_once, _mark(sink.upsert), _mark(sink.delete)]
        table.add_row(f"sc.sinks.{sink.name}", " ".join(sink.uris), *abilities)
    out().print(table)


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _mark(able: bool | None) -> str:
    return "by format" if able is None else "yes" if able else "-"


@connect.command(cls=Command)
@click.argument("uri", metavar="URI|PATH")
@click.option("--sink", "as_sink", is_flag=True, help="Try it as a sink: reach it and log in.")
@click.pass_obj
def test(options: Globals, uri: str, as_sink: bool) -> None:
    """Try a source: reach it, log in, look what there is, read a first piece.

    Nothing is written, to a sink neither. The exit code is 0 when all of it worked.
    """
    steps = _Steps(options)
    (_try_sink if as_sink else _try_source)(steps, uri)


class _Steps:
    """What was tried, told one by one."""

    def __init__(self, options: Globals) -> None:
        self._json, self._done = options.json, list[dict[str, object]]()

    def take(self, what: str, work: Callable[[], T], said: Callable[[T], str]) -> T:
        """Do *work*, and tell what *said* makes of its result."""
        began = time.monotonic()
        result = work()
        found, seconds = said(result), round(time.monotonic() - began, 3)
        self._done.append({"step": what, "found": found, "seconds": seconds})
        if not self._json:
            mark, took = click.style("ok", fg="green", bold=True), click.style(f"{seconds:.2f} s", dim=True)
            click.echo(f"{mark}  {what:8} {found}  {took}")
        return result

    def end(self, uri: str, command: str = "") -> None:
        """All worked; *command* is what to do next."""
        if self._json:
            click.echo(json.dumps({"uri": uri, "ok": True, "steps": self._done}))
        elif command:
            suggest(command)


def _try_source(steps: _Steps, uri: str) -> None:
    from batch_adapters.catalogue import open_source
    from batch_adapters.sampling import sample
    from streamcore.cli.console import count
    from streamcore.schema.types import name_of

    source = steps.take("open", lambda: open_source(uri), lambda opened: opened.uri)
    steps.take(
        "columns",
        source.columns,
        lambda columns: (
            "known when it is read"
            if columns is None
            else ", ".join(f"{name} {name_of(dtype)}" for name, dtype in columns.items())
        ),
    )
    steps.take(
        "read",
        lambda: sample(source, 1),
        lambda rows: (
            f"{count(rows.frame.height)} row" + (f", {rows.refused} refused" if rows.refused else "")
        ),
    )
    steps.end(source.uri, f"streamcore connect sample '{_shown(uri)}'")


def _try_sink(steps: _Steps, uri: str) -> None:
    from streamcore.sinks import open_sink
    from streamcore.sinks.reaching import reach

    sink = steps.take("open", lambda: open_sink(uri), lambda made: f"{type(made).__name__}, {made.name}")
    steps.take(
        "reach",
        lambda: asyncio.run(reach(sink)),
        lambda _: "reached, logged in, and the target is there or will be made",
    )
    steps.end(_shown(uri).partition("?")[0])


@connect.command("sample", cls=Command)
@click.argument("uri", metavar="URI|PATH")
@click.option("--rows", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many.")
@click.pass_obj
def sample_(options: Globals, uri: str, rows: int) -> None:
    """Print the first rows of a source."""
    from batch_adapters.catalogue import open_source
    from batch_adapters.sampling import sample
    from streamcore.cli import preview
    from streamcore.cli.console import out

    source = open_source(uri)
    found = sample(source, rows)
    if options.json:
        rows_ = preview.lines(found.frame) if found.frame.width else []
        click.echo(json.dumps({"uri": source.uri, "rows": rows_, "refused": found.refused}))
        return
    if found.frame.height:
        out().print(preview.table(found.frame))
    else:
        click.echo("no rows")
    if found.refused:
        click.echo(click.style(f"{found.refused} of what was read are no rows", fg="yellow"), err=True)
    suggest(f"streamcore schema infer '{_shown(uri)}'")


def _shown(uri: str) -> str:
    from streamcore.secrets import mask_url

    return mask_url(uri)
