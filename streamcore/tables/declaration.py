"""Tables as users declare them, checked: what is wrong is said when the topology is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.aggregates.table import AGGREGATES, Maker
from streamcore.batch import HIDDEN
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns
from streamcore.state.order import ORDER
from streamcore.tables import expiring, first, latest, regroup, retractions, top, unique
from streamcore.tables.expiring import LivingGroups, LivingLatest, LivingTop
from streamcore.tables.first import FirstOperator
from streamcore.tables.group import GroupOperator
from streamcore.tables.latest import LatestOperator
from streamcore.tables.ordering import ordering
from streamcore.tables.regroup import RegroupOperator
from streamcore.tables.retractions import Retractions
from streamcore.tables.top import TopOperator
from streamcore.tables.top_of_table import TopOverTable
from streamcore.tables.unique import UniqueOperator

MOST = 1_000_000
"""Most rows of a group that are kept: its ranks are part of numbers of 64 bits."""
MOST_OF_TABLE = 1_000
"""The same over a table, where each change of a group updates all its ranks."""
_LONGEST = 1 << 62


class Lives(NamedTuple):
    """How long a key lives: *ttl* microseconds of the event time of *stream*, whose column is *time*."""

    stream: str
    time: str | None
    ttl: int


def group_operator(
    by: tuple[str, ...],
    aggregates: Mapping[str, str],
    columns: pl.Schema,
    functions: Mapping[str, Maker] = AGGREGATES,
    lives: Lives | None = None,
) -> GroupOperator | LivingGroups:
    """The operator of a table by *by* over rows with *columns*, which only come, by these *functions*.

    BadConfig for no keys, unknown ones or such that can't be compared, names that are there twice, what
    :meth:`Aggregation.of` refuses, and *lives* by no event time or of no length.
    """
    if lives is None:
        return GroupOperator(by, _aggregation(by, aggregates, columns, functions), columns)
    aggregation = _aggregation(by, aggregates, columns, functions, order=ORDER)
    return LivingGroups(by, _time_of(lives, columns), columns, aggregation, lives.ttl)


def regroup_operator(
    by: tuple[str, ...],
    aggregates: Mapping[str, str],
    columns: pl.Schema,
    functions: Mapping[str, Maker] = AGGREGATES,
    *,
    of: tuple[str, ...],
) -> RegroupOperator:
    """As :func:`group_operator`, over rows that take the places of those with the same *of*."""
    return RegroupOperator(by, of, columns, _aggregation(by, aggregates, columns, functions))


def _aggregation(
    by: tuple[str, ...],
    aggregates: Mapping[str, str],
    columns: pl.Schema,
    functions: Mapping[str, Maker],
    *,
    order: str | None = None,
) -> Aggregation:
    check_keys(by, columns)
    names = [*by, *aggregates]
    for name in names:
        if names.count(name) > 1:
            raise BadConfig("two columns of the result have the same name", got=name, fix="rename one")
    check_free(columns, regroup.RESERVED)
    return Aggregation.of(aggregates, columns, functions, order=order)


def top_operator(
    by: Sequence[str],
    order: str,
    columns: pl.Schema,
    *,
    n: int,
    rank: str | None = None,
    lives: Lives | None = None,
) -> TopOperator | LivingTop:
    """The operator of the *n* best rows by *order* (SQL text) of each group of *by*, of rows with *columns*.

    *rank* names the column of the rank: "rank" if it is not given and there are several, none for one.

    BadConfig for no, unknown or double groups, those that can't be compared, an order that
    :func:`~streamcore.tables.ordering.ordering` refuses, a number of rows that is none, a name for
    the rank that is there already, and *lives* by no event time or of no length.
    """
    check_keys(tuple(by), columns)
    check_free(columns, top.RESERVED)
    best, rank = ordering(order, columns), _rank(rank, n, MOST, columns)
    if lives is None:
        return TopOperator(tuple(by), best, n, rank, columns)
    return LivingTop(tuple(by), _time_of(lives, columns), columns, lives.ttl, best, n, rank)


def top_of_table_operator(
    by: tuple[str, ...],
    order: str,
    columns: pl.Schema,
    *,
    of: tuple[str, ...],
    n: int,
    rank: str | None = None,
) -> TopOverTable:
    """As :func:`top_operator`, over rows that take the places of those with the same *of*."""
    check_keys(by, columns)
    check_free(columns, (*regroup.RESERVED, *top.RESERVED))
    best = ordering(order, columns)
    return TopOverTable(by, of, columns, best, n, _rank(rank, n, MOST_OF_TABLE, columns))


def _rank(rank: str | None, n: int, most: int, columns: pl.Schema) -> str | None:
    """The name of the column of the rank."""
    if not 1 <= n <= most:
        raise BadConfig("the number of best rows is at least 1", got=n, allowed=[f"1 to {most}"])
    if rank is None and n > 1:
        rank = "rank"
    if rank in columns:
        raise BadConfig(
            "the rows have a column with the rank's name", got=rank, fix="give the rank another: rank="
        )
    if rank is not None and (not rank or rank in (*HIDDEN, *top.RESERVED)):
        raise BadConfig("this can't be a column's name", got=rank, fix="give the rank another: rank=")
    return rank


def latest_operator(
    by: tuple[str, ...], columns: pl.Schema, lives: Lives | None = None
) -> LatestOperator | LivingLatest:
    """The operator of the latest row of each key *by*, of rows with *columns*.

    BadConfig for no, unknown or double keys, those that can't be compared, and *lives* by no event time or
    of no length.
    """
    check_keys(by, columns)
    check_free(columns, latest.RESERVED)
    if lives is None:
        return LatestOperator(by, columns)
    return LivingLatest(by, _time_of(lives, columns), columns, lives.ttl)


def _time_of(lives: Lives, columns: pl.Schema) -> str:
    """The column of the event time by which keys live."""
    check_free(columns, expiring.RESERVED)
    _check_span("ttl", lives.ttl, lives.stream, lives.time, columns)
    assert lives.time is not None
    return lives.time


def first_operator(
    by: Sequence[str], columns: pl.Schema, *, stream: str, time: str | None, within: int | None = None
) -> FirstOperator:
    """The operator of the first row of each group of *by*, of rows with *columns* of *stream*.

    With *within* microseconds of the event time, whose column is *time*, another one is let pass.

    BadConfig for no, unknown or double groups, those that can't be compared, and for a *within* that is
    no time or that a stream without event time has.
    """
    check_keys(tuple(by), columns)
    check_free(by, first.RESERVED)
    if within is None:
        return FirstOperator(tuple(by), columns)
    _check_span("within", within, stream, time, columns)
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


def unique_operator(
    by: tuple[str, ...],
    columns: pl.Schema,
    *,
    stream: str,
    time: str | None,
    within: int | None,
) -> UniqueOperator:
    """The operator that marks rows whose key *by* was there before; the rest as :func:`first_operator`."""
    check_keys(by, columns)
    check_free(columns, unique.RESERVED)
    if within is not None:
        _check_span("within", within, stream, time, columns)
    return UniqueOperator(by, columns, time if time in columns else None, within)


def retractions_of(key: tuple[str, ...], columns: pl.Schema, op: str, number: str) -> Retractions:
    """The operator of what the updates of a table with *key* and *columns* take back and add.

    *op* and *number* name the columns that it adds: BadConfig when they can't, or when the state needs one.
    """
    check_free(columns, [*retractions.RESERVED, *(retractions.OLD + name for name in columns)])
    for name in (op, number):
        if not name or name in (*HIDDEN, *columns, *retractions.RESERVED) or op == number:
            raise BadConfig("this can't be the name of a new column", got=name, fix="give op= and number=")
    return Retractions(key, columns, op, number)


def _check_span(name: str, span: int, stream: str, time: str | None, columns: pl.Schema) -> None:
    """BadConfig unless *span* microseconds of the event time, whose column is *time*, can be asked for."""
    if time is None:
        raise BadConfig(
            f"stream {stream!r} has no event time, and {name}= is about it",
            fix='declare it: stream(…, event_time="column"); a table over another has none',
        )
    check_columns([time], columns, "as event time")
    if span <= 0:
        raise BadConfig(f"{name}= must be longer than no time", got=f"{span} microseconds")
    if span >= _LONGEST:  # added to a time it would wrap around
        raise BadConfig(f"{name}= must be shorter than 146,000 years", got=f"{span} microseconds")


def check_free(columns: Iterable[str], reserved: Sequence[str]) -> None:
    """BadConfig if one of *columns* has a *reserved* name, that of a column of the state."""
    for name in columns:
        if name in reserved:
            raise BadConfig("the state needs this column's name", got=name, fix="rename the column")
