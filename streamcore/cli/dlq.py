"""``streamcore dlq``: the rows that were refused; list them, look at one, send them again."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import time
from collections import Counter
from collections.abc import Callable
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
from streamcore.errors import BadConfig

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    from streamcore.deadletter.reader import Filter
    from streamcore.deadletter.record import DeadLetter
    from streamcore.deadletter.redrive import RedrivePlan
    from streamcore.settings import Settings

    class Chosen(TypedDict):
        """What the options of :func:`filters` give."""

        code: str | None
        stage: str | None
        stream: str | None
        since: float | None
        until: float | None


Function = TypeVar("Function", bound=Callable[..., object])

_AGO = re.compile(r"(\d+)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SHOWN_BYTES = 4_096
_SHOWN_LETTERS = 20


class Moment(click.ParamType):
    """``2h`` (ago), or an ISO 8601 time, UTC unless it says otherwise; gives seconds since the epoch."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if match := _AGO.fullmatch(value.strip()):
            return time.time() - int(match[1]) * _SECONDS[match[2]]
        try:
            moment = dt.datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            self.fail(
                f"{value!r} is no time; write 30m, 2h, 7d, 2026-01-31 or 2026-01-31T12:00:00Z", param, ctx
            )
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).timestamp()


def filters(function: Function) -> Function:
    """The options that choose dead letters; :func:`_filter` takes their values."""
    for option in (
        click.option("--until", type=Moment(), metavar="TIME", help="Refused before this time."),
        click.option(
            "--since", type=Moment(), metavar="TIME", help="Refused since, e.g. 2h or 2026-01-31T12:00Z."
        ),
        click.option("--stream", metavar="NAME", help="Rows of this stream only."),
        click.option("--stage", metavar="STAGE", help="Refused by this node or sink only, e.g. decode."),
        click.option("--code", metavar="CODE", help="With this error code only, e.g. range."),
    ):
        function = option(function)
    return function


@click.group(cls=Group)
def dlq() -> None:
    """Look at refused rows, send them again."""


@dlq.command("list", cls=Command)
@click.argument("topology")
@filters
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Show this many rows."
)
@broker_options
@click.pass_obj
def list_(
    options: Globals,
    /,
    topology: str,
    limit: int,
    broker: str | None,
    state_dir: Path | None,
    **only: Unpack[Chosen],
) -> None:
    """List the dead letters of a topology.

    TOPOLOGY is its name, e.g. flights.
    """
    settings = options.settings(broker_settings(broker, state_dir)).settings
    letters = asyncio.run(_read(settings, topology, _filter(only)))
    if options.json:
        click.echo(json.dumps({"topology": topology, "dead_letters": [_document(x) for x in letters]}))
        return
    if not letters:
        click.echo(f"no dead letters in {settings.dead_letter_topic(topology)}")
        return
    _table(letters[:limit])
    reasons = Counter((x.stage, x.code) for x in letters)
    listed = ", ".join(f"{stage} {code} {number:,}" for (stage, code), number in reasons.most_common(10))
    click.echo(f"{min(limit, len(letters)):,} of {len(letters):,} shown: {listed}")
    suggest(f"streamcore dlq show {topology} {_place(letters[0])}{same_broker(broker, state_dir)}")


@dlq.command(cls=Command)
@click.argument("topology")
@click.argument("letter")
@broker_options
@click.pass_obj
def show(options: Globals, topology: str, letter: str, broker: str | None, state_dir: Path | None) -> None:
    """Print one dead letter with its original record.

    LETTER is its id, or its place PARTITION/OFFSET as `dlq list` prints it.
    """
    settings = options.settings(broker_settings(broker, state_dir)).settings
    found = next(
        (x for x in asyncio.run(_read(settings, topology, None)) if letter in (x.id, _place(x))), None
    )
    if found is None:
        raise BadConfig(
            f"there is no dead letter {letter!r}",
            where=settings.dead_letter_topic(topology),
            fix=f"see streamcore dlq list {topology}",
        )
    record = _original(found)
    if options.json:
        click.echo(json.dumps({**_document(found), "record": record}))
        return
    for name, value in _document(found).items():
        click.echo(f"{click.style(f'{name:9}', dim=True)} {value}")
    click.echo(click.style("record", dim=True))
    click.echo(record)


@dlq.command(cls=Command)
@click.argument("topology")
@filters
@click.option("--id", "ids", multiple=True, metavar="ID", help="This dead letter only; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, send nothing.")
@broker_options
@click.pass_obj
def redrive(
    options: Globals,
    /,
    topology: str,
    ids: tuple[str, ...],
    dry_run: bool,
    broker: str | None,
    state_dir: Path | None,
    **only: Unpack[Chosen],
) -> None:
    """Send dead letters again, each one once.

    They go to the topology's own redrive stream and enter at the stage that refused them. A row
    that was tried dead_letters.max_attempts times stays where it is.
    """
    settings = options.settings(broker_settings(broker, state_dir)).settings
    from streamcore.runtime.options import REDRIVE_SUFFIX

    plan = asyncio.run(_redrive(settings, topology, _filter(only, ids), dry_run))
    if options.json:
        counts = {"sent_before": plan.sent_before, "over_limit": plan.over_limit}
        click.echo(json.dumps({"dry_run": dry_run, "sent": [x.id for x in plan.send], **counts}))
        return
    if dry_run and plan.send:
        _table(list(plan.send[:_SHOWN_LETTERS]))
    taken_by = "the next replay" if settings.broker.url == "embedded" else "the running workers"
    sent = "would send" if dry_run else "sent"
    click.echo(f"{sent} {len(plan.send):,} to {topology}{REDRIVE_SUFFIX}, for {taken_by}")
    if plan.sent_before:
        click.echo(f"left {plan.sent_before:,} that were sent before")
    if plan.over_limit:
        click.echo(f"left {plan.over_limit:,} that were tried {settings.dead_letters.max_attempts} times")


async def _read(settings: Settings, topology: str, only: Filter | None) -> list[DeadLetter]:
    from streamcore.cli.logs import open_log
    from streamcore.deadletter.reader import read

    async with open_log(settings, topology) as log:
        return [letter async for letter in read(log, settings.dead_letter_topic(topology), only)]


async def _redrive(settings: Settings, topology: str, only: Filter, dry_run: bool) -> RedrivePlan:
    from streamcore.cli.logs import open_log
    from streamcore.deadletter.redrive import plan, send
    from streamcore.runtime.options import REDRIVE_SUFFIX

    async with open_log(settings, topology) as log:
        source, target = settings.dead_letter_topic(topology), topology + REDRIVE_SUFFIX
        chosen = await plan(log, source, target, only, settings.dead_letters.max_attempts)
        if not dry_run:
            await send(log, target, chosen.send, time.time())
        return chosen


def _filter(only: Chosen, ids: tuple[str, ...] = ()) -> Filter:
    from streamcore.deadletter.reader import Filter

    return Filter(**only, ids=frozenset(ids) or None)


def _place(letter: DeadLetter) -> str:
    return f"{letter.log_partition}/{letter.log_offset}"


def _document(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "place": _place(letter),
        "time": _refused(letter),
        "stage": letter.stage,
        "code": letter.code,
        "message": letter.message,
        "stream": letter.stream,
        "source": f"{letter.source}/{letter.offset}",
        "attempts": letter.attempts,
    }


def _table(letters: list[DeadLetter]) -> None:
    from rich.table import Table

    from streamcore.cli.console import out

    rows = [
        (
            _place(x),
            _refused(x).removesuffix("+00:00").replace("T", " "),
            x.stage,
            x.code,
            str(x.attempts),
            f"{x.stream} {x.source.partition}/{x.offset}",
        )
        for x in letters
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, *cells in zip(("place", "refused", "stage", "code", "tries", "record"), *rows, strict=True):
        table.add_column(column, min_width=max(len(text) for text in (column, *cells)))
    table.add_column("message", no_wrap=True, overflow="ellipsis")  # it alone gives way
    for row, letter in zip(rows, letters, strict=True):
        table.add_row(*row, letter.message)
    out().print(table)


def _refused(letter: DeadLetter) -> str:
    return dt.datetime.fromtimestamp(letter.time, dt.timezone.utc).isoformat(timespec="seconds")


def _original(letter: DeadLetter) -> str:
    """The record as text: JSON of a row that never was bytes; bytes that are no text as hexadecimal."""
    if letter.value is None:
        return "(tombstone: a record without a value)"
    if letter.encoding == "arrow":
        import polars as pl

        return pl.read_ipc_stream(letter.value).write_ndjson().rstrip()
    part = letter.value[:_SHOWN_BYTES]
    more = f"\n… {len(letter.value) - len(part):,} bytes more" if len(letter.value) > len(part) else ""
    text = (
        part.decode(errors="replace" if more else "strict") if _is_text(part, bool(more)) else part.hex(" ")
    )
    return text + more


def _is_text(data: bytes, cut: bool) -> bool:
    """True when *data* may be printed: UTF-8 (its last character may be *cut*) without control characters."""
    try:
        text = data[: -3 if cut else None].decode()
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\n\r\t" for c in text)
