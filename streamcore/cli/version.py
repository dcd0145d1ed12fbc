"""``streamcore version``"""

from __future__ import annotations

import json
import platform
from importlib import metadata

import click

from streamcore.cli.command import Command, Globals

SHOWN = ("streamcore", "faust-streaming", "aiokafka", "polars", "pyarrow")


@click.command(cls=Command)
@click.pass_obj
def version(options: Globals) -> None:
    """Versions of streamcore and its base."""
    versions = {name: metadata.version(name) for name in SHOWN}
    versions["python"] = platform.python_version()
    if options.json:
        click.echo(json.dumps(versions))
        return
    for name, number in versions.items():
        click.echo(f"{name:16} {number}")
