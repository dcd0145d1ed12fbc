"""A window as users declare it, checked: what is wrong is said when the topology is loaded."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.aggregates.table import UNORDERED
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns
from streamcore.windows.assigners import WindowKind
from streamcore.windows.operator import WINDOW_END, WINDOW_START, WindowOperator


def window_operator(
    kind: WindowKind,
    by: tuple[str, ...],
    aggregates: Mapping[str, str],
    columns: pl.Schema,
    *,
    stream: str,
    time: str | None,
    of_windows: bool,
) -> WindowOperator:
    """The operator of a window over rows with *columns* of *stream*, whose event time is *time*.

    *of_windows*: the rows are closed windows, and *time* is their end.

    BadConfig for a stream without event time, unknown columns, keys that can't be compared, names that
    are there twice, and what :meth:`Aggregation.of` refuses.
    """
    if time is None:
        raise BadConfig(
            f"stream {stream!r} has no event time", fix='declare it: stream(…, event_time="column")'
        )
    check_columns([time, *by], columns, "in window")
    for column in by:
        if columns[column].is_nested() or columns[column] == pl.Object:
            raise BadConfig(f"column {column!r} can't be a key of windows", got=str(columns[column]))
    names = [*by, WINDOW_START, WINDOW_END, *aggregates]
    for name in names:
        if names.count(name) > 1:
            raise BadConfig("two columns of the result have the same name", got=name, fix="rename one")
    return WindowOperator(
        kind=kind,
        by=by,
        aggregation=Aggregation.of(aggregates, columns, UNORDERED),
        time=time,
        inputs=columns,
        of_windows=of_windows,
    )
