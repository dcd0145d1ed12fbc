"""``streamcore topologies``: which there are, and what each one does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from streamcore.cli.command import Command, Globals, Group
from streamcore.errors import BadConfig


@click.group(cls=Group)
def topologies() -> None:
    """List topologies, or check and print one."""


@topologies.command("list", cls=Command)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("topologies"))
@click.pass_obj
def list_(options: Globals, folder: Path) -> None:
    """List the topologies in the modules of FOLDER.

    The modules are imported; one that can't be is listed with its error.
    """
    if not folder.is_dir():
        raise BadConfig(
            "there is no such folder",
            where=str(folder),
            fix="name the folder of your topologies, or run init",
        )
    found = [row for path in sorted(folder.glob("*.py")) if path.name != "__init__.py" for row in _rows(path)]
    if options.json:
        click.echo(json.dumps(found))
        return
    from rich.table import Table
    from rich.text import Text

    from streamcore.cli.console import out

    console, table = out(), Table(box=None, pad_edge=False, header_style="bold")
    for column in ("topology", "module", "streams", "sinks"):
        table.add_column(column, no_wrap=True)
    table.add_column("what")
    for row in found:
        if not row["error"]:
            table.add_row(*("\n".join(v) if isinstance(v, list) else str(v) for v in list(row.values())[:5]))
    console.print(table)
    for row in found:
        if row["error"]:
            console.print(Text.assemble((f"{row['module']}  ", "bold"), (str(row["error"]), "red")))


def _rows(path: Path) -> list[dict[str, object]]:
    """A row a topology of the module at *path*, or one with what is wrong with the module."""
    from streamcore.runtime.loading import topologies_of
    from streamcore.runtime.modules import load_module

    try:
        module = load_module(str(path))
        graphs = [topology.freeze() for topology in topologies_of(module).values()]
    except BadConfig as error:
        return [_row("", path, error=str(error))]
    what = (module.__doc__ or "").strip().partition("\n")[0]
    return [_row(graph.name, path, list(graph.sources), list(graph.sinks), what) for graph in graphs]


def _row(
    name: str,
    path: Path,
    streams: Sequence[str] = (),
    sinks: Sequence[str] = (),
    what: str = "",
    error: str | None = None,
) -> dict[str, object]:
    return {
        "topology": name,
        "module": str(path),
        "streams": [*streams],
        "sinks": [*sinks],
        "what": what,
        "error": error,
    }


@topologies.command(cls=Command)
@click.argument("module")
@click.option("--mermaid", is_flag=True, help="A Mermaid flowchart instead of the tree.")
@click.pass_obj
def show(options: Globals, module: str, mermaid: bool) -> None:
    """Check a topology and print its graph.

    MODULE is topologies.flights, a path, or module:variable.
    """
    from streamcore.runtime.loading import load_topology

    topology = load_topology(module)
    if options.json:
        graph = topology.freeze()
        nodes = [
            {
                "id": node.id,
                "inputs": list(node.inputs),
                "columns": {name: str(dtype) for name, dtype in node.columns.items()},
                "where": node.where,
            }
            for node in graph.nodes.values()
        ]
        click.echo(json.dumps({"topology": topology.name, "nodes": nodes, "mermaid": graph.mermaid()}))
        return
    click.echo(topology.mermaid() if mermaid else topology.text())
