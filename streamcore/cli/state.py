"""``streamcore state``: what windows, tables and joins hold, read from their logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from streamcore.cli.command import (
    Command,
    Globals,
    Group,
    broker_options,
    broker_settings,
    same_broker,
    suggest,
)
from streamcore.cli.state_worker import worker
from streamcore.errors import BadConfig

if TYPE_CHECKING:
    import polars as pl

    from streamcore.contracts import Log
    from streamcore.graph import Graph
    from streamcore.runtime.state_reading import Kept, OnRecords

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., object])
_WRITERS = (".parquet", ".csv", ".jsonl")


@click.group(cls=Group)
def state() -> None:
    """Look at what windows, tables and joins hold."""


state.add_command(worker)


def _of_a_node(function: Function) -> Function:
    """The arguments and options of commands that read one node's state."""
    options = (
        broker_options,
        click.option("--log", "topic", metavar="TOPIC", help="Which log, if replays have made several."),
        click.option("--where", metavar="SQL", help="Rows for which this is true, e.g. 'total > 100'."),
    )
    for option in options:
        function = option(function)
    return click.argument("module")(click.argument("node")(function))


@state.command("list", cls=Command)
@click.argument("module")
@broker_options
@click.pass_obj
def list_(options: Globals, module: str, broker: str | None, state_dir: Path | None) -> None:
    """List the windows, tables and joins of a topology, and their logs.

    MODULE is topologies.flights, a path, or module:variable.
    """
    graph, found = _read(options, module, broker, state_dir, _listed)
    if options.json:
        rows = [{"node": k.node, "what": k.what, "log": k.topic, "records": k.records} for k in found]
        click.echo(json.dumps({"topology": graph.name, "state": rows}))
        return
    if not found:
        click.echo(f"topology {graph.name} keeps no state" if not graph.stateful else "no log is there yet")
        return
    for kept in found:
        parts = len(kept.bounds)
        partitions = f"{parts} partition" + ("s" if parts > 1 else "")
        click.echo(f"{click.style(kept.node, bold=True)}  {kept.what}")
        click.echo(click.style(f"  {kept.topic}: {partitions}, {kept.records:,} records", dim=True))
    suggest(f"streamcore state scan {module} {found[0].node}{same_broker(broker, state_dir)}")


@state.command(cls=Command)
@click.argument("module")
@click.argument("node")
@click.option("--log", "topic", metavar="TOPIC", help="Which log, if replays have made several.")
@broker_options
@click.pass_obj
def size(
    options: Globals, module: str, node: str, topic: str | None, broker: str | None, state_dir: Path | None
) -> None:
    """Print how many rows and bytes each partition of a state has.

    Bytes are those that the state takes in a worker's memory, rows those that scan shows.
    """
    from streamcore.runtime.state_reading import read_sizes

    sizes = _of_node(options, module, node, topic, broker, state_dir, read_sizes)
    if options.json:
        click.echo(json.dumps({"node": node, "partitions": [one._asdict() for one in sizes]}))
        return
    for one in sizes:
        records = f"{one.log_records:,} records in the log"
        click.echo(f"partition {one.partition}: {one.rows:,} rows, {_bytes(one.bytes)}, {records}")
    total = f"{sum(one.rows for one in sizes):,} rows, {_bytes(sum(one.bytes for one in sizes))}"
    click.echo(click.style(f"together {total}", dim=True))


def _bytes(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB" if count >= 1 << 20 else f"{count / (1 << 10):,.1f} KiB"


@state.command(cls=Command)
@_of_a_node
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Show this many.")
@click.pass_obj
def scan(
    options: Globals,
    module: str,
    node: str,
    topic: str | None,
    where: str | None,
    limit: int,
    broker: str | None,
    state_dir: Path | None,
) -> None:
    """Print rows that a window, table or join holds now.

    Of a table these are its rows; of windows those that are open, with their aggregates so far; of a join
    the rows that others may still match.
    """
    rows = _rows(options, module, node, topic, where, broker, state_dir)
    _show(options, rows, limit)


@state.command(cls=Command)
@click.argument("module")
@click.argument("node")
@click.argument("key", nargs=-1, required=True, metavar="COLUMN=VALUE...")
@click.option("--log", "topic", metavar="TOPIC", help="Which log, if replays have made several.")
@broker_options
@click.pass_obj
def get(
    options: Globals,
    module: str,
    node: str,
    key: tuple[str, ...],
    topic: str | None,
    broker: str | None,
    state_dir: Path | None,
) -> int:
    """Print the rows of one key, e.g. `get topologies.shop totals customer=ann`; exit code 1 if none."""
    import polars as pl

    from streamcore.expressions import check_columns

    rows = _rows(options, module, node, topic, None, broker, state_dir)
    for pair in key:
        column, equals, value = pair.partition("=")
        if not equals:
            raise BadConfig("a key is COLUMN=VALUE", got=pair, allowed=rows.columns)
        check_columns([column], rows.schema, f"in {node!r}")
        rows = rows.filter(pl.col(column).cast(pl.String) == value)
    _show(options, rows, rows.height)
    return 0 if rows.height else 1


@state.command(cls=Command)
@_of_a_node
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def export(
    options: Globals,
    module: str,
    node: str,
    file: Path,
    topic: str | None,
    where: str | None,
    broker: str | None,
    state_dir: Path | None,
) -> None:
    """Write all rows of a state to FILE, which ends in .parquet, .csv or .jsonl."""
    if file.suffix not in _WRITERS:
        raise BadConfig("the file's ending says its format", got=file.name, allowed=_WRITERS)
    if file.exists():
        raise BadConfig("the file is there already", got=str(file), fix="give another name, or remove it")
    rows = _rows(options, module, node, topic, where, broker, state_dir)
    if file.suffix == ".parquet":
        rows.write_parquet(file)
    elif file.suffix == ".csv":
        rows.write_csv(file)
    else:
        rows.write_ndjson(file)
    if options.json:
        click.echo(json.dumps({"file": str(file), "rows": rows.height}))
    else:
        click.echo(f"{rows.height:,} rows to {file}")


# ---------------------------------------------------------------- reading


def _rows(
    options: Globals,
    module: str,
    node: str,
    topic: str | None,
    where: str | None,
    broker: str | None,
    state_dir: Path | None,
) -> pl.DataFrame:
    from streamcore.expressions import condition
    from streamcore.runtime.state_reading import read_state

    found = _of_node(options, module, node, topic, broker, state_dir, read_state)
    return found if where is None else found.filter(condition(where, found.schema))


def _of_node(
    options: Globals,
    module: str,
    node: str,
    topic: str | None,
    broker: str | None,
    state_dir: Path | None,
    read: Callable[[Graph, Kept, Log, OnRecords], Awaitable[T]],
) -> T:
    """What *read* gives of the state of *node*, with a bar meanwhile."""
    from streamcore.runtime.state_reading import chosen, kept_states

    async def reading(graph: Graph, log: Log) -> T:
        kept = chosen(await kept_states(graph, log), graph, node, topic)
        terminal = click.get_text_stream("stderr")
        label = f"reading {kept.topic}"
        with click.progressbar(
            length=kept.records, label=label, file=terminal, hidden=not terminal.isatty()
        ) as bar:
            return await read(graph, kept, log, lambda done, _: bar.update(done - bar.pos))

    return _read(options, module, broker, state_dir, reading)[1]


async def _listed(graph: Graph, log: Log) -> list[Kept]:
    from streamcore.runtime.state_reading import kept_states

    return await kept_states(graph, log)


def _read(
    options: Globals,
    module: str,
    broker: str | None,
    state_dir: Path | None,
    read: Callable[[Graph, Log], Awaitable[T]],
) -> tuple[Graph, T]:
    """What *read* gives of the topology *module* and the log that the options name."""
    from streamcore.cli.logs import open_log
    from streamcore.runtime.loading import load_topology

    settings = options.settings(broker_settings(broker, state_dir)).settings
    graph = load_topology(module).freeze()

    async def main() -> T:
        async with open_log(settings, graph.name) as log:
            return await read(graph, log)

    return graph, asyncio.run(main())


def _show(options: Globals, rows: pl.DataFrame, limit: int) -> None:
    from streamcore.cli.console import out
    from streamcore.cli.preview import lines, table

    if options.json:
        click.echo(json.dumps({"rows": lines(rows.head(limit)), "total": rows.height}))
        return
    if rows.height:
        out().print(table(rows.head(limit)))
    click.echo(click.style(f"{min(limit, rows.height):,} of {rows.height:,} rows", dim=True))
