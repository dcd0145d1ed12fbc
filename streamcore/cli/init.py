"""``streamcore init``: a project whose own test passes, to start from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from streamcore.cli.command import Command, Globals, suggest
from streamcore.errors import BadConfig

TEMPLATE = Path(__file__).parent / "scaffold"
SUFFIX = ".txt"
"""The templates carry it so that no tool takes them for modules of this package."""


@click.command(cls=Command)
@click.argument("name", type=click.Path(path_type=Path))
@click.pass_obj
def init(options: Globals, name: Path) -> None:
    """Make a new project: a topology, data, settings, a test."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name.name):
        raise BadConfig(
            "this can't be the name of a project",
            got=name.name,
            fix="use letters, digits, '-' and '_', a letter first",
        )
    if name.exists() and (not name.is_dir() or any(name.iterdir())):
        raise BadConfig("the folder is not empty", where=str(name), fix="choose another name")
    written = [str(path) for path in _copy(TEMPLATE, name)]
    commands = [
        f"cd {name}",
        "python -m pytest",
        "streamcore replay topologies/orders.py --from orders=data/sample.csv",
    ]
    if options.json:
        click.echo(json.dumps({"project": str(name), "files": written, "next": commands}))
        return
    for path in written:
        click.echo(f"  {path}")
    for command in commands:
        suggest(command)


def _copy(template: Path, target: Path) -> list[Path]:
    """Write the files of *template* below *target*; ``PROJECT`` in them becomes the project's name."""
    from streamcore.settings import DEFAULT_FILE
    from streamcore.settings.yaml_file import commented_file

    written = []
    for source in sorted(template.rglob(f"*{SUFFIX}")):
        path = target / source.relative_to(template).with_suffix("")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.read_text(encoding="utf-8").replace("PROJECT", target.name), encoding="utf-8")
        written.append(path)
    settings = target / DEFAULT_FILE
    settings.parent.mkdir()
    settings.write_text(commented_file(), encoding="utf-8")
    return [*written, settings]
