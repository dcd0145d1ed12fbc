"""``streamcore backfill``: runs for the firings of a past range."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.command import Command, Globals, Group, suggest
from streamcore.cli.pipeline_parameters import Parameter, Time
from streamcore.cli.pipeline_store import SEARCHED, meant, print_cancelled, print_rows, registered, with_store
from streamcore.cli.schedule import iso, scheduled

if TYPE_CHECKING:
    from streamcore.metadata.backfills import BackfillRecord, NewBackfill, Reprocess
    from streamcore.metadata.contract import Store
    from streamcore.pipelines.models import PipelineConfig

_SHOWN = 20
"""Lines of a preview; all of them are in the JSON document."""


@click.group(cls=Group)
def backfill() -> None:
    """Run what a schedule would have run in the past.

    The leading `streamcore pipeline worker` carries backfills on, behind live runs.
    """


@backfill.command(cls=Command)
@click.argument("pipeline_id")
@click.option("--from", "begin", type=Time(), required=True, metavar="TIME", help="The first firings.")
@click.option("--to", "end", type=Time(), metavar="TIME", help="Only those before this.  [default: now]")
@click.option("--backwards", is_flag=True, help="The newest first.")
@click.option("--parallel", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="N")
@click.option(
    "--reprocess",
    type=click.Choice(["none", "failed", "all"]),
    default="none",
    show_default=True,
    help="Of firings that have a run: go on with failed ones, or run all again.",
)
@click.option(
    "--param", "parameters", multiple=True, type=Parameter(), metavar="NAME=VALUE", help="Of its runs."
)
@click.option("--dry-run", is_flag=True, help="Only show which firings it would run.")
@click.pass_obj
def create(
    options: Globals,
    pipeline_id: str,
    begin: dt.datetime,
    end: dt.datetime | None,
    parameters: tuple[tuple[str, Any], ...],
    dry_run: bool,
    backwards: bool,
    parallel: int,
    reprocess: Reprocess,
) -> None:
    """Make runs of a registered pipeline's firings from TIME on, before another TIME.

    Times without a zone are those of the schedule's. A firing that has a run is left out, unless asked for.
    """

    async def work(store: Store) -> tuple[NewBackfill, list[dict[str, object]]]:
        config = await registered(store, pipeline_id)
        new = _new(
            config,
            begin,
            end,
            dict(parameters),
            backwards=backwards,
            parallel=parallel,
            reprocess=reprocess,
        )
        rows = await _preview(store, config, new)
        if not dry_run:
            await store.backfills.create(new, _now())
        return new, rows

    new, rows = with_store(options, work)
    if options.json:
        made = None if dry_run else new.backfill_id
        click.echo(json.dumps({"backfill_id": made, "pipeline_id": pipeline_id, "firings": rows}))
        return
    print_rows(options, "firings", rows[:_SHOWN], ("local", "utc", "step"))
    _say(new, rows, dry_run)


@backfill.command("list", cls=Command)
@click.argument("pipeline_id", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@click.pass_obj
def list_(options: Globals, pipeline_id: str | None, limit: int) -> None:
    """The newest backfills and how far they are, of all pipelines or of one."""

    async def work(store: Store) -> list[dict[str, object]]:
        if pipeline_id is not None:
            await registered(store, pipeline_id)
        return [_row(one) for one in await store.backfills.backfills(pipeline_id, limit=limit)]

    columns = ("backfill_id", "pipeline_id", "status", "progress", "failed", "from", "to", "created")
    rows = with_store(options, work)
    shown = rows if options.json else [{**row, "backfill_id": str(row["backfill_id"])[:12]} for row in rows]
    print_rows(options, "backfills", shown, columns)


@backfill.command(cls=Command)
@click.argument("backfill_id")
@click.pass_obj
def cancel(options: Globals, backfill_id: str) -> None:
    """Start no more runs of a backfill, and cancel those under way. The id may be abbreviated, or `last`."""

    async def work(store: Store) -> dict[str, object]:
        found = await _backfill_of(store, backfill_id)
        asked = await store.backfills.cancel(found.backfill_id, _now())
        return {**_row(found), "cancelled": asked}

    row = with_store(options, work)
    said = "is cancelled, its runs are being ended"
    print_cancelled(options, row, f"backfill {row['backfill_id']}", said)


# ---------------------------------------------------------------- what they share


def _now() -> int:
    return round(time.time() * 1e6)


def _new(
    config: PipelineConfig,
    begin: dt.datetime,
    end: dt.datetime | None,
    parameters: dict[str, Any],
    *,
    backwards: bool,
    parallel: int,
    reprocess: Reprocess,
) -> NewBackfill:
    from streamcore.metadata.backfills import NewBackfill
    from streamcore.pipelines.backfilling import firings_of
    from streamcore.pipelines.commands import check_parameters
    from streamcore.pipelines.schedules import moment_of

    schedule, now = scheduled(config), _now()
    check_parameters(config, parameters)
    upto = now + 1 if end is None else moment_of(end, schedule.zone)
    firings = firings_of(schedule, moment_of(begin, schedule.zone), upto, now, backwards=backwards)
    return NewBackfill(uuid.uuid4().hex, config.pipeline_id, firings, parallel, reprocess, parameters)


async def _preview(store: Store, config: PipelineConfig, new: NewBackfill) -> list[dict[str, object]]:
    """What would be done with each firing, as its runs are now."""
    from streamcore.pipelines.backfilling import step_of

    zone, rows = scheduled(config).zone, list[dict[str, object]]()
    runs = await store.backfills.runs_of(new.pipeline_id, min(new.firings), max(new.firings))
    for firing in new.firings:
        run = runs.get(firing)
        step = step_of(new.reprocess, run).value
        rows.append({"local": iso(firing, zone), "utc": iso(firing), "step": step})
        if run is not None:
            rows[-1]["run_id"], rows[-1]["status"] = run.run_id, str(run.status)
    return rows


def _say(new: NewBackfill, rows: Sequence[dict[str, object]], dry_run: bool) -> None:
    left_out = sum(row["step"] == "leave out" for row in rows)
    more = f"… and {len(rows) - _SHOWN} more\n" if len(rows) > _SHOWN else ""
    click.echo(f"{more}{len(rows) - left_out} firings to run, {left_out} left out, {new.parallel} at once")
    if dry_run:
        click.echo("nothing was made: this was a preview")
    else:
        click.echo(f"backfill {new.backfill_id}")
        suggest("streamcore pipeline worker")
        suggest("streamcore backfill list")


def _row(one: BackfillRecord) -> dict[str, object]:
    over = one.total - one.counts.get("waiting", 0) - one.active
    return {
        "backfill_id": one.backfill_id,
        "pipeline_id": one.pipeline_id,
        "status": str(one.status),
        "progress": f"{over}/{one.total}",
        "failed": one.counts.get("failed", 0),
        "counts": dict(one.counts),
        "from": iso(one.from_us),
        "to": iso(one.to_us),
        "parallel": one.parallel,
        "reprocess": one.reprocess,
        "created": iso(one.created_us),
        "ended": iso(one.ended_us),
    }


async def _backfill_of(store: Store, text: str) -> BackfillRecord:
    newest = {one.backfill_id: one for one in await store.backfills.backfills(limit=SEARCHED)}
    return meant(text, newest, "backfill", "streamcore backfill list")
