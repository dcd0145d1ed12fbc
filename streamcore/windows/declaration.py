"""A window as users declare it, checked: what is wrong is said when the topology is loaded."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.aggregates.table import AGGREGATES, Maker
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns
from streamcore.state.operator import UPSTREAM
from streamcore.windows.assigners import LAST, START, Aligned, WindowKind
from streamcore.windows.operator import WINDOW_END, WINDOW_START, WindowOperator
from streamcore.windows.order import ORDER
from streamcore.windows.table import WindowTable

RESERVED = (ORDER, UPSTREAM, START, LAST)
"""Names of columns that the state of windows has."""


def window_operator(
    kind: WindowKind,
    by: tuple[str, ...],
    aggregates: Mapping[str, str],
    columns: pl.Schema,
    *,
    stream: str,
    time: str | None,
    of_windows: bool,
    functions: Mapping[str, Maker] = AGGREGATES,
) -> WindowOperator:
    """The operator of a window over rows with *columns* of *stream*, whose event time is *time*.

    *of_windows*: the rows are closed windows, and *time* is their end. *functions* are the aggregates that
    may be called.

    BadConfig for a stream without event time, unknown columns, keys that can't be compared, names that
    are there twice, and what :meth:`Aggregation.of` refuses.
    """
    time = _checked(by, aggregates, columns, stream, time)
    return WindowOperator(
        kind=kind,
        by=by,
        aggregation=Aggregation.of(aggregates, columns, functions, order=ORDER),
        time=time,
        inputs=columns,
        of_windows=of_windows,
    )


def window_table(
    kind: WindowKind,
    by: tuple[str, ...],
    aggregates: Mapping[str, str],
    columns: pl.Schema,
    *,
    stream: str,
    time: str | None,
    of_windows: bool,
    functions: Mapping[str, Maker] = AGGREGATES,
) -> WindowTable:
    """The same windows as a table that is kept up to date. BadConfig as there, and for sessions."""
    time = _checked(by, aggregates, columns, stream, time)
    if not isinstance(kind, Aligned):
        raise BadConfig(
            "sessions grow together, so they have no row that could be kept up to date",
            got=kind.label,
            allowed=["tumbling", "hopping"],
            fix="aggregate() gives each session when it is over",
        )
    return WindowTable(
        kind, by, Aggregation.of(aggregates, columns, functions, order=ORDER), time, columns, of_windows
    )


def _checked(
    by: tuple[str, ...], aggregates: Mapping[str, str], columns: pl.Schema, stream: str, time: str | None
) -> str:
    """The column of the event time, when nothing is wrong."""
    if time is None:
        raise BadConfig(
            f"stream {stream!r} has no event time", fix='declare it: stream(…, event_time="column")'
        )
    check_columns([time, *by], columns, "in window")
    for column in RESERVED:
        if column in columns:
            raise BadConfig("windows need this column's name", got=column, fix="rename the column")
    for column in by:
        if columns[column].is_nested() or columns[column] == pl.Object:
            raise BadConfig(f"column {column!r} can't be a key of windows", got=str(columns[column]))
    names = [*by, WINDOW_START, WINDOW_END, *aggregates]
    for name in names:
        if names.count(name) > 1:
            raise BadConfig("two columns of the result have the same name", got=name, fix="rename one")
    return time
