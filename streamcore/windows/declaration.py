"""A window as users declare it, checked: what is wrong is said when the topology is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.aggregates.table import AGGREGATES, Maker
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns
from streamcore.state.operator import UPSTREAM
from streamcore.state.order import ORDER
from streamcore.state.runs import HASH
from streamcore.state.sessions import LAST, START
from streamcore.windows.assigners import Aligned, Session, WindowKind
from streamcore.windows.counted import SEEN, WINDOW_NUMBER, Counted, CountedOperator
from streamcore.windows.final import FinalWindowTable
from streamcore.windows.operator import WINDOW_END, WINDOW_START, WindowOperator
from streamcore.windows.session_table import SessionWindowTable
from streamcore.windows.sliding import AT, Sliding, SlidingOperator
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
    allowed: int = 0,
    final: bool = False,
) -> WindowTable | SessionWindowTable:
    """The same windows as a table that is kept up to date. BadConfig as there.

    *allowed*: for how long, in microseconds, late rows update a window. *final*: it has no row before it is
    over.
    """
    time = _checked(by, aggregates, columns, stream, time)
    if allowed < 0 or allowed >= 1 << 61:
        raise BadConfig("late rows update windows for a time from 0 on", got=f"{allowed} microseconds")
    aggregation = Aggregation.of(aggregates, columns, functions, order=ORDER)
    if isinstance(kind, Session):
        return SessionWindowTable(by, time, columns, aggregation, kind, of_windows, allowed, final)
    assert isinstance(kind, Aligned)
    made = FinalWindowTable if final else WindowTable
    return made(kind, by, aggregation, time, columns, of_windows, allowed)


def counted_operator(
    kind: Counted,
    by: tuple[str, ...],
    aggregates: Mapping[str, str],
    columns: pl.Schema,
    functions: Mapping[str, Maker] = AGGREGATES,
) -> CountedOperator:
    """The operator of windows of so many rows, which need no event time. BadConfig as there."""
    _check_names(by, [*by, WINDOW_NUMBER, *aggregates], columns, (SEEN, HASH))
    return CountedOperator(kind, by, Aggregation.of(aggregates, columns, functions), columns)


def sliding_operator(
    kind: Sliding,
    by: tuple[str, ...],
    aggregates: Mapping[str, str],
    columns: pl.Schema,
    *,
    stream: str,
    time: str | None,
    functions: Mapping[str, Maker] = AGGREGATES,
) -> SlidingOperator:
    """The operator of rows with aggregates of the time before each. BadConfig as there."""
    time = _checked_time(time, columns, stream)
    _check_names(by, [*columns, *aggregates], columns, (ORDER, UPSTREAM, AT, HASH))
    aggregation = Aggregation.of(aggregates, columns, functions, order=ORDER)
    return SlidingOperator(kind, by, aggregation, time, columns)


def _checked(
    by: tuple[str, ...], aggregates: Mapping[str, str], columns: pl.Schema, stream: str, time: str | None
) -> str:
    """The column of the event time, when nothing is wrong."""
    time = _checked_time(time, columns, stream)
    _check_names(by, [*by, WINDOW_START, WINDOW_END, *aggregates], columns, RESERVED)
    return time


def _checked_time(time: str | None, columns: pl.Schema, stream: str) -> str:
    if time is None:
        raise BadConfig(
            f"stream {stream!r} has no event time", fix='declare it: stream(…, event_time="column")'
        )
    check_columns([time], columns, "in window")
    return time


def _check_names(
    by: tuple[str, ...], names: Sequence[str], columns: pl.Schema, reserved: Sequence[str]
) -> None:
    """BadConfig for keys that are none, *names* of the result that are twice there, *reserved* columns."""
    check_columns([*by], columns, "in window")
    for column in reserved:
        if column in columns:
            raise BadConfig("windows need this column's name", got=column, fix="rename the column")
    for column in by:
        if columns[column].is_nested() or columns[column] == pl.Object:
            raise BadConfig(f"column {column!r} can't be a key of windows", got=str(columns[column]))
    for name in names:
        if names.count(name) > 1:
            raise BadConfig("two columns of the result have the same name", got=name, fix="rename one")
