"""Tables as users declare them, checked: what is wrong is said when the topology is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.batch import HIDDEN
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns
from streamcore.tables import first, latest, regroup, top
from streamcore.tables.first import FirstOperator
from streamcore.tables.group import GroupOperator
from streamcore.tables.latest import LatestOperator
from streamcore.tables.ordering import ordering
from streamcore.tables.regroup import RegroupOperator
from streamcore.tables.top import TopOperator

MOST = 1_000_000
"""Most rows of a group that are kept: its ranks are part of numbers of 64 bits."""
_LONGEST = 1 << 62


def group_operator(
    by: tuple[str, ...], aggregates: Mapping[str, str], columns: pl.Schema, *, of: tuple[str, ...] | None
) -> GroupOperator | RegroupOperator:
    """The operator of a table by *by* over rows with *columns*, which update those with the same *of*.

    None: they only come. BadConfig for no keys, unknown ones or such that can't be compared, names that
    are there twice, and what :meth:`Aggregation.of` refuses.
    """
    check_keys(by, columns)
    names = [*by, *aggregates]
    for name in names:
        if names.count(name) > 1:
            raise BadConfig("two columns of the result have the same name", got=name, fix="rename one")
    _check_free(columns, regroup.RESERVED)
    aggregation = Aggregation.of(aggregates, columns)
    if of is None:
        return GroupOperator(by, aggregation, columns)
    return RegroupOperator(by, of, aggregation, columns)


def top_operator(
    by: Sequence[str], order: str, columns: pl.Schema, *, n: int, rank: str | None = None
) -> TopOperator:
    """The operator of the *n* best rows by *order* (SQL text) of each group of *by*, of rows with *columns*.

    *rank* names the column of the rank: "rank" if it is not given and there are several, none for one.

    BadConfig for no, unknown or double groups, those that can't be compared, an order that
    :func:`~streamcore.tables.ordering.ordering` refuses, a number of rows that is none, and a name for
    the rank that is there already.
    """
    check_keys(tuple(by), columns)
    _check_free(columns, top.RESERVED)
    if not 1 <= n <= MOST:
        raise BadConfig("the number of best rows is at least 1", got=n, allowed=[f"1 to {MOST}"])
    if rank is None and n > 1:
        rank = "rank"
    if rank in columns:
        raise BadConfig(
            "the rows have a column with the rank's name", got=rank, fix="give the rank another: rank="
        )
    if rank is not None and (not rank or rank in (*HIDDEN, *top.RESERVED)):
        raise BadConfig("this can't be a column's name", got=rank, fix="give the rank another: rank=")
    return TopOperator(tuple(by), ordering(order, columns), n, rank, columns)


def latest_operator(by: tuple[str, ...], columns: pl.Schema, *, of: tuple[str, ...] | None) -> LatestOperator:
    """The operator of the latest row of each key *by*, of rows with *columns*.

    *of* is the key of the table that the rows are updates of; None: they are rows of a stream. BadConfig for
    no, unknown or double keys, those that can't be compared, and for another key than the table's.
    """
    check_keys(by, columns)
    _check_free(columns, latest.RESERVED)
    if of is not None and set(of) != set(by):
        raise BadConfig("a table has its latest rows by its key", got=", ".join(by), allowed=[", ".join(of)])
    return LatestOperator(by, columns)


def first_operator(
    by: Sequence[str], columns: pl.Schema, *, stream: str, time: str | None, within: int | None = None
) -> FirstOperator:
    """The operator of the first row of each group of *by*, of rows with *columns* of *stream*.

    With *within* microseconds of the event time, whose column is *time*, another one is let pass.

    BadConfig for no, unknown or double groups, those that can't be compared, and for a *within* that is
    no time or that a stream without event time has.
    """
    check_keys(tuple(by), columns)
    _check_free(by, first.RESERVED)
    if within is None:
        return FirstOperator(tuple(by), columns)
    if time is None:
        raise BadConfig(
            f"stream {stream!r} has no event time, and within= is about it",
            fix='declare it: stream(…, event_time="column")',
        )
    check_columns([time], columns, "as event time")
    if within <= 0:
        raise BadConfig("within= must be longer than no time", got=f"{within} microseconds")
    if within >= _LONGEST:  # added to a time it would wrap around
        raise BadConfig("within= must be shorter than 146,000 years", got=f"{within} microseconds")
    return FirstOperator(tuple(by), columns, time, within)


def check_keys(by: tuple[str, ...], columns: pl.Schema) -> None:
    """BadConfig unless *by*, at least one of *columns*, can name the rows of a table."""
    if not by:
        raise BadConfig(
            "a table needs the columns that name its rows",
            fix="""for one row of all, add a column first: .add_column("all", "1").by("all")""",
        )
    check_columns([*by], columns, "in by")
    for column in by:
        if by.count(column) > 1:
            raise BadConfig("a column is there twice", got=column, fix="name it once")
        if columns[column].is_nested() or columns[column] == pl.Object:
            raise BadConfig(f"column {column!r} can't be a key", got=str(columns[column]))


def _check_free(columns: Iterable[str], reserved: Sequence[str]) -> None:
    """BadConfig if one of *columns* has a *reserved* name, that of a column of the state."""
    for name in columns:
        if name in reserved:
            raise BadConfig("the state needs this column's name", got=name, fix="rename the column")
