"""``streamcore topologies``: which there are, and what each one does."""

from __future__ import annotations

import json
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

    The modules are imported, so what they do at import happens.
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

    from streamcore.cli.console import out

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("topology", "module", "streams", "sinks", "what"):
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(*(", ".join(v) if isinstance(v, list) else str(v) for v in row.values()))
    out().print(table)


def _rows(path: Path) -> list[dict[str, object]]:
    """A row a topology of the module at *path*; a module without one gives none."""
    from streamcore.runtime.loading import load_module, topologies_of

    module = load_module(str(path))
    what = (module.__doc__ or "").strip().partition("\n")[0]
    rows: list[dict[str, object]] = []
    for topology in topologies_of(module).values():
        graph = topology.freeze()
        rows.append(
            {
                "topology": topology.name,
                "module": str(path),
                "streams": list(graph.sources),
                "sinks": list(graph.sinks),
                "what": what,
            }
        )
    return rows


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
