"""The end of a job: a table for people, a document for machines."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamcore.cli.console import count, duration, short, size
from streamcore.progress import Summary

STATUS_STYLE = {"finished": "green", "already finished": "green", "interrupted": "yellow"}


def document(summary: Summary, next_commands: list[str]) -> dict[str, object]:
    """*summary* as JSON; rates are rows a second, sizes bytes."""
    progress = summary.progress
    return {
        "topology": summary.topology,
        "status": summary.status,
        "rows_in": progress.rows_in,
        "bytes_in": progress.bytes_in,
        "rows_out": dict(progress.rows_out),
        "rejected": [{"stage": r.stage, "code": r.code, "rows": n} for r, n in progress.rejected.items()],
        "rules": dict(progress.rules),
        "late": dict(progress.late),
        "seconds": round(progress.elapsed, 3),
        "rows_per_second": round(progress.rate),
        "outputs": dict(summary.outputs),
        "dead_letters": {"log": summary.dead_letter_log, "rows": progress.dead_letters},
        "group": summary.group,
        "next": next_commands,
    }


def show(console: Console, summary: Summary, next_commands: list[str]) -> None:
    """Print *summary*: what came in, what went where, what was refused and why, and what to do next."""
    progress = summary.progress
    head = Text.assemble(
        (summary.topology, "bold"),
        " ",
        (summary.status, STATUS_STYLE[summary.status]),
        f" in {progress.elapsed:.2f} s" if progress.elapsed < 60 else f" in {duration(progress.elapsed)}",
    )
    console.print(head)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    table.add_row(
        "in", "rows", count(progress.rows_in), f"{size(progress.bytes_in)}, {short(progress.rate)} rows/s"
    )
    for sink in {**summary.outputs, **progress.rows_out}:
        table.add_row("out", sink, count(progress.rows_out.get(sink, 0)), summary.outputs.get(sink, ""))
    for refused, rows in sorted(progress.rejected.items(), key=lambda item: -item[1]):
        table.add_row("rejected", refused.stage, Text(count(rows), style="yellow"), refused.code)
    for rule, rows in progress.rules.items():
        table.add_row("rule", rule, count(rows), "rows broke it" if rows else "held")
    for window, rows in progress.late.items():
        style = "yellow" if rows else ""
        table.add_row(
            "late", window, Text(count(rows), style=style), "rows after their window" if rows else "none"
        )
    if summary.dead_letter_log is not None:
        table.add_row("dead letters", summary.dead_letter_log, count(progress.dead_letters), "")
    console.print(table)
    for command in next_commands:
        console.print(Text.assemble(("next  ", "dim"), (command, "cyan")), soft_wrap=True)
