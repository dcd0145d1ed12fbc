"""``streamcore schedule``: when pipelines are due, and whether they run then."""

from __future__ import annotations

import datetime as dt
import heapq
import json
import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import click

from streamcore.cli.command import Command, Globals, Group
from streamcore.cli.pipeline_files import of_file
from streamcore.cli.pipeline_parameters import Time
from streamcore.cli.pipeline_store import print_rows, registered, with_store
from streamcore.errors import BadConfig

if TYPE_CHECKING:
    from streamcore.metadata.contract import Store
    from streamcore.metadata.scheduling import ScheduleRecord
    from streamcore.pipelines.models import PipelineConfig
    from streamcore.pipelines.schedules import Schedule


@click.group(cls=Group)
def schedule() -> None:
    """See when pipelines are due; pause and resume them.

    Runs are made by `streamcore pipeline worker`, or by any orchestrator of one's own.
    """


@schedule.command("list", cls=Command)
@click.pass_obj
def list_(options: Globals) -> None:
    """The registered pipelines that have a schedule."""
    now = _now()

    async def work(store: Store) -> list[dict[str, object]]:
        return [_row(record, config, now) for record, config in await _scheduled(store)]

    columns = ("pipeline_id", "schedule", "timezone", "catchup", "next", "paused")
    print_rows(options, "schedules", with_store(options, work), columns)


@schedule.command("next", cls=Command)
@click.argument("name", required=False)
@click.option("--count", type=click.IntRange(1, 10_000), default=10, show_default=True, metavar="N")
@click.option("--from", "begin", type=Time(), metavar="TIME", help="Those later than this.  [default: now]")
@click.pass_obj
def next_(options: Globals, name: str | None, count: int, begin: dt.datetime | None) -> None:
    """The next firings, of all pipelines together or of NAME, a registered pipeline or a file.

    `local` is what clocks show in the schedule's zone; `starts` is when the run begins, with jitter.
    """
    config = of_file(name) if name is not None else None

    async def work(store: Store) -> list[PipelineConfig]:
        if name is None:
            return [one for record, one in await _scheduled(store) if record.paused_us is None]
        return [await registered(store, name)]

    configs = [config] if config is not None else with_store(options, work)
    firings = heapq.merge(*(_firings(scheduled(one), begin) for one in configs))
    rows = [row for _, _, row in islice(firings, count)]
    jitter = ("starts",) if any("starts" in row for row in rows) else ()
    print_rows(options, "firings", rows, ("pipeline_id", "local", "utc", *jitter))


@schedule.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.pass_obj
def pause(options: Globals, names: tuple[str, ...]) -> None:
    """Make no more runs of these pipelines. Runs that exist go on."""
    _switch(options, names, paused=True)


@schedule.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.pass_obj
def resume(options: Globals, names: tuple[str, ...]) -> None:
    """Make runs of these pipelines again; of what they missed, as their catchup says."""
    _switch(options, names, paused=False)


def scheduled(config: PipelineConfig) -> Schedule:
    """The schedule of a pipeline; BadConfig when it has none."""
    from streamcore.pipelines.schedules import schedule_of

    if (found := schedule_of(config)) is None:
        fix = "give it one: schedule: '0 */6 * * *'"
        raise BadConfig(f"pipeline {config.pipeline_id!r} has no schedule", fix=fix)
    return found


def iso(moment: int | None, zone: dt.tzinfo = dt.timezone.utc) -> str | None:
    """A moment in *zone*, to the second."""
    from streamcore.pipelines.schedules import local

    return None if moment is None else local(moment, zone).isoformat(timespec="seconds")


# ---------------------------------------------------------------- what they share


def _now() -> int:
    return round(time.time() * 1e6)


async def _scheduled(store: Store) -> list[tuple[ScheduleRecord, PipelineConfig]]:
    from streamcore.pipelines.models import PipelineConfig

    configs = {one.pipeline_id: one.config for one in await store.pipelines()}
    read = [
        (record, PipelineConfig.model_validate_json(configs[record.pipeline_id]))
        for record in await store.scheduling.schedules()
    ]
    return [(record, config) for record, config in read if config.schedule is not None]


def _row(record: ScheduleRecord, config: PipelineConfig, now: int) -> dict[str, object]:
    found = scheduled(config)
    following = next(found.after(now), None) if record.paused_us is None else None
    return {
        "pipeline_id": record.pipeline_id,
        "schedule": config.schedule,
        "timezone": config.timezone,
        "catchup": config.catchup,
        "next": iso(following, found.zone),
        "paused": iso(record.paused_us),
    }


def _firings(found: Schedule, begin: dt.datetime | None) -> Iterator[tuple[int, str, dict[str, object]]]:
    from streamcore.pipelines.schedules import moment_of

    for moment in found.after(_now() if begin is None else moment_of(begin, found.zone)):
        row: dict[str, object] = {"pipeline_id": found.pipeline_id, "local": iso(moment, found.zone)}
        row["utc"] = iso(moment)
        if found.jitter_us:
            row["starts"] = iso(found.start_of(moment))
        yield moment, found.pipeline_id, row


def _switch(options: Globals, names: tuple[str, ...], *, paused: bool) -> None:
    async def work(store: Store) -> list[dict[str, object]]:
        configs = [await registered(store, name) for name in names]  # all of them before any is changed
        for config in configs:
            scheduled(config)
        rows: list[dict[str, object]] = []
        for config in configs:
            name = config.pipeline_id
            changed = await (
                store.scheduling.pause(name, _now()) if paused else store.scheduling.resume(name)
            )
            rows.append({"pipeline_id": name, "paused": paused, "changed": changed})
            rows[-1]["catchup"] = config.catchup
        return rows

    rows = with_store(options, work)
    if options.json:
        click.echo(json.dumps({"pipelines": rows}))
    for row in rows if not options.json else []:
        before = "" if row["changed"] else ", as it was before"
        if paused:
            click.echo(f"{row['pipeline_id']} is paused{before}")
        else:
            missed = f"; of what it missed it makes up for: {row['catchup']}" if row["changed"] else ""
            click.echo(f"{row['pipeline_id']} runs by its schedule{before}{missed}")
