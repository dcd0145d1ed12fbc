"""What a dry run shows: the first rows that each sink would get, what it would make, and what be refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamcore.cli.console import count

if TYPE_CHECKING:
    import polars as pl

    from streamcore.runtime.replay import Preview

ROWS, JSON_ROWS = 5, 100
_WIDEST = 40
"""Characters of a column: one long text would leave no room for the others."""


def document(topology: str, preview: Preview) -> dict[str, object]:
    """*preview* as JSON; values that JSON has no type for are text."""
    return {
        "topology": topology,
        "dry_run": True,
        "rows_in": preview.rows_in,
        "rows_out": {sink: frame.height for sink, frame in preview.rows.items()},
        "rejected": [{"stage": r.stage, "code": r.code, "rows": n} for r, n in preview.rejected.items()],
        "rows": {sink: lines(frame.head(JSON_ROWS)) for sink, frame in preview.rows.items()},
        "statements": {sink: list(statements) for sink, statements in preview.statements.items()},
    }


def show(console: Console, topology: str, preview: Preview) -> None:
    """Print *preview*: a table a sink, and how it would make what is missing."""
    console.print(
        Text.assemble((topology, "bold"), f" dry run of {count(preview.rows_in)} rows; nothing was written")
    )
    for sink, frame in preview.rows.items():
        console.print(Text.assemble("\n", (sink, "bold"), f" would get {count(frame.height)} rows"))
        if frame.height:
            console.print(table(frame.head(ROWS)))
    for sink, statements in preview.statements.items():
        if statements:
            console.print(Text.assemble("\n", (sink, "bold"), " would make, where it is missing"))
        for statement in statements:
            console.print(Text(statement, style="dim"), soft_wrap=True)
    for refused, rows in preview.rejected.items():
        console.print(Text(f"refused {count(rows)} at {refused.stage}: {refused.code}", style="yellow"))


def lines(frame: pl.DataFrame) -> list[object]:
    """The rows of *frame* as JSON objects, as a topic would hold them."""
    import orjson

    from streamcore.formats import format_named

    return [orjson.loads(value) for value in format_named("json").encode(frame).to_pylist()]


def table(frame: pl.DataFrame) -> Table:
    """*frame* for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column, dtype in frame.schema.items():
        table.add_column(
            column,
            justify="right" if dtype.is_numeric() else "left",
            overflow="ellipsis",
            no_wrap=True,
            max_width=_WIDEST,
        )
    for row in frame.iter_rows():
        table.add_row(*("" if value is None else str(value) for value in row))
    return table
