"""``streamcore schema``: columns and types of sources, of the streams of topologies, and how they differ."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamcore.cli.command import Command, Globals, Group
from streamcore.errors import BadConfig, did_you_mean

if TYPE_CHECKING:
    import polars as pl

_MODULE = re.compile(r"[A-Za-z_][\w.]*(:\w+)?\Z")
_LINE = 80
_rows = click.option(
    "--rows", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="How many to look at."
)


@click.group(cls=Group)
def schema() -> None:
    """Columns and types of sources and streams.

    SCHEMA is a path or URI of a source, or MODULE#STREAM: topologies/flights.py#flights.
    """


@schema.command(cls=Command)
@click.argument("uri", metavar="URI|PATH")
@_rows
@click.pass_obj
def infer(options: Globals, uri: str, rows: int) -> None:
    """Tell columns and types by the first rows, and print them as a stream's declaration."""
    from batch_adapters.catalogue import open_source
    from batch_adapters.sampling import sample
    from streamcore.cli.console import count, out
    from streamcore.schema.types import name_of

    source = open_source(uri)
    found = sample(source, rows)
    nulls = {name: found.frame[name].null_count() for name in found.frame.columns}
    columns = [
        {"name": name, "type": name_of(dtype), "nulls": nulls.get(name, 0)}
        for name, dtype in found.columns.items()
    ]
    if options.json:
        document = {"uri": source.uri, "rows": found.frame.height, "refused": found.refused}
        click.echo(json.dumps({**document, "columns": columns}))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("column", no_wrap=True)
    table.add_column("type")
    table.add_column(f"nulls of {count(found.frame.height)}", justify="right")
    for column in columns:
        table.add_row(str(column["name"]), str(column["type"]), count(nulls.get(str(column["name"]), 0)))
    out().print(table)
    if found.refused:
        click.echo(click.style(f"{found.refused} of what was read are no rows", fg="yellow"), err=True)
    click.echo()
    click.echo(f'topology.stream("NAME", {_declaration(found.columns)})')


def _declaration(columns: pl.Schema) -> str:
    """*columns* as Python: types with a name in quotes."""
    from streamcore.schema.types import name_of

    types = {name: name_of(dtype) for name, dtype in columns.items()}
    pairs = [f"{json.dumps(n)}: {t if t.startswith('pl.') else json.dumps(t)}" for n, t in types.items()]
    line = ", ".join(pairs)
    return f"{{{line}}}" if len(line) < _LINE else "{\n" + "".join(f"    {pair},\n" for pair in pairs) + "}"


@schema.command(cls=Command)
@click.argument("target", metavar="SCHEMA|MODULE")
@click.pass_obj
def show(options: Globals, target: str) -> None:
    """Print the columns of a topology's streams, or those that a source knows before it is read."""
    found = _streams(target) if _is_topology(target) else {_masked(target): _known(target)}
    if options.json:
        click.echo(json.dumps({name: _document(columns) for name, columns in found.items()}))
        return
    for name, columns in found.items():
        click.echo(click.style(name, bold=True))
        width = max((len(column) for column in columns), default=0)
        for column, type_ in _document(columns).items():
            click.echo(f"  {column:{width}}  {type_}")


@schema.command(cls=Command)
@click.argument("before", metavar="SCHEMA")
@click.argument("after", metavar="SCHEMA")
@_rows
@click.pass_obj
def diff(options: Globals, before: str, after: str, rows: int) -> int:
    """Compare two schemas; the exit code is 1 when they differ.

    Of a source that does not know its columns, or only as texts, the first rows say them.
    """
    from streamcore.schema.differing import differences

    found = differences(_columns(before, rows), _columns(after, rows))
    if options.json:
        click.echo(json.dumps({"differences": [difference._asdict() for difference in found]}))
        return 1 if found else 0
    if not found:
        click.echo("the same columns and types")
        return 0
    width = max(len(difference.column) for difference in found)
    marks = {"missing": ("-", "red"), "new": ("+", "green")}
    for name, was, now, verdict in found:
        mark, colour = marks.get(verdict, ("~", "yellow"))
        types = f"{was} -> {now}" if was and now else was or now
        click.echo(
            f"{click.style(f'{mark} {name:{width}}', fg=colour)}  {types}  " + click.style(verdict, dim=True)
        )
    return 1


# ---------------------------------------------------------------- where schemas come from


def _columns(target: str, rows: int) -> pl.Schema:
    """The columns of one schema."""
    if _is_topology(target):
        found = _streams(target)
        if len(found) == 1:
            return next(iter(found.values()))
        raise BadConfig(
            "which stream of the topology?",
            where=target,
            allowed=found,
            fix=f"write {target}#{next(iter(found))}",
        )
    from batch_adapters.catalogue import open_source
    from batch_adapters.sampling import sample

    return sample(open_source(target), rows).columns


def _is_topology(target: str) -> bool:
    """Whether *target* is a module of topologies, perhaps with a stream, and not a source."""
    module = target.partition("#")[0]
    if "://" in target:
        return False
    return module.partition(":")[0].endswith(".py") or (
        not Path(target).exists() and _MODULE.match(module) is not None and ("#" in target or "." in module)
    )


def _streams(target: str) -> dict[str, pl.Schema]:
    """The columns of the streams of MODULE, or of the one of MODULE#STREAM."""
    from streamcore.graph import Source
    from streamcore.runtime.loading import load_topology

    module, _, stream = target.partition("#")
    sources = load_topology(module).freeze().sources
    found = {name: n.part.schema.columns for name, n in sources.items() if isinstance(n.part, Source)}
    if not stream:
        return found
    if stream not in found:
        raise BadConfig(
            "the topology has no such stream",
            where=module,
            got=stream,
            allowed=found,
            fix=did_you_mean(stream, found),
        )
    return {stream: found[stream]}


def _known(target: str) -> pl.Schema:
    from batch_adapters.catalogue import open_source

    columns = open_source(target).columns()
    if columns is None:
        raise BadConfig(
            "the source does not know its columns before it is read",
            where=_masked(target),
            fix=f"streamcore schema infer '{_masked(target)}' tells them by the first rows",
        )
    return columns


def _document(columns: pl.Schema) -> dict[str, str]:
    from streamcore.schema.types import name_of

    return {name: name_of(dtype) for name, dtype in columns.items()}


def _masked(target: str) -> str:
    from streamcore.secrets import mask_url

    return mask_url(target)
