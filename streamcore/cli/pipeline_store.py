"""What the commands about pipelines share: the store of the settings, pipelines and runs by id, tables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import click

from streamcore.cli.command import Globals
from streamcore.errors import BadConfig, did_you_mean

if TYPE_CHECKING:
    from streamcore.metadata.contract import Store
    from streamcore.metadata.records import RunRecord
    from streamcore.pipelines.models import PipelineConfig

T = TypeVar("T")
SEARCHED = 1000
"""An abbreviated id is looked for among so many of the newest."""


def with_store(options: Globals, work: Callable[[Store], Awaitable[T]]) -> T:
    """What *work* makes of the store that the settings name."""
    from streamcore.metadata import open_store

    url = options.settings().settings.metadata_url()

    async def main() -> T:
        store = await open_store(url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


async def run_of(store: Store, text: str) -> RunRecord:
    """The run whose id is or begins with *text*, or the ``last`` one."""
    if (exact := await store.run(text)) is not None:
        return exact
    newest = {run.run_id: run for run in await store.runs(limit=SEARCHED)}
    return meant(text, newest, "run", "streamcore pipeline history")


def meant(text: str, newest: Mapping[str, T], noun: str, command: str) -> T:
    """That of *newest*, by id, whose id begins with *text*, or the first, ``last``; *command* lists them."""
    found = list(newest)[:1] if text == "last" else [one for one in newest if one.startswith(text)]
    if len(found) == 1:
        return newest[found[0]]
    what = f"several {noun}s have an id that begins so" if found else f"there is no such {noun}"
    raise BadConfig(what, got=text, fix=f"see {command}")


async def registered(store: Store, name: str) -> PipelineConfig:
    """The newest version of the pipeline *name*; BadConfig when there is none."""
    from streamcore.pipelines.models import PipelineConfig

    record = await store.pipeline(name)
    if record is None:
        known = [one.pipeline_id for one in await store.pipelines()]
        hint = did_you_mean(name, known) or "name a file, or register it first"
        raise BadConfig(f"there is no pipeline {name!r}", allowed=known, fix=hint)
    return PipelineConfig.model_validate_json(record.config)


def print_rows(options: Globals, key: str, rows: list[dict[str, object]], columns: tuple[str, ...]) -> None:
    """*rows* as a table of *columns*, or as a document under *key*."""
    from streamcore.cli import pipeline_view
    from streamcore.cli.console import out

    if options.json:
        click.echo(json.dumps({key: rows}))
    else:
        out().print(pipeline_view.rows_table(rows, columns))


def print_cancelled(options: Globals, row: dict[str, object], what: str, said: str) -> None:
    """*row* of what was to be cancelled, or the sentence "*what* *said*", or that it had ended before."""
    if options.json:
        click.echo(json.dumps(row))
    elif row["cancelled"]:
        click.echo(f"{what} {said}")
    else:
        click.echo(f"{what} has ended: {row['status']}")
