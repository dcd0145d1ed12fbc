"""``streamcore config``: the settings as they are in force here."""

from __future__ import annotations

import json

import click

from streamcore.cli.command import Command, Globals, Group


@click.group(cls=Group)
def config() -> None:
    """The settings in force and their origins."""


@config.command(cls=Command)
@click.pass_obj
def show(options: Globals) -> None:
    """Print every setting, its value and its origin."""
    loaded = options.settings()
    if options.json:
        document = {s.name: {"value": s.value, "origin": s.origin} for s in loaded.shown()}
        click.echo(json.dumps(document))
        return
    from rich.table import Table

    from streamcore.cli.console import out

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("origin", overflow="fold", style="dim")
    for shown in loaded.shown():
        value = "" if shown.value is None else str(shown.value)
        style = None if shown.origin == "default" else "bold cyan"
        table.add_row(shown.name, value, shown.origin, style=style)
    out().print(table, markup=False)
