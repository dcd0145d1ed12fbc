"""Tables as users declare them, checked: what is wrong is said when the topology is loaded."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns
from streamcore.tables.group import GroupOperator
from streamcore.tables.regroup import RegroupOperator
from streamcore.tables.top import TopOperator
from streamcore.transforms.columns import check_new_name


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
    aggregation = Aggregation.of(aggregates, columns)
    if of is None:
        return GroupOperator(by, aggregation, columns)
    return RegroupOperator(by, of, aggregation, columns)


def top_operator(
    by: tuple[str, ...], n: int, order: str, rank: str | None, columns: pl.Schema
) -> TopOperator:
    """The operator of the best *n* rows by *by* in *order*, e.g. "price desc, bidder".

    BadConfig for bad keys, an order of anything but columns, and a rank that is missing or there already.
    """
    check_keys(by, columns)
    if n < 1:
        raise BadConfig("top takes the number of rows of a group", got=n, allowed=["1 or more"])
    if rank is None and n > 1:
        rank = "rank"
    if rank is not None:
        check_new_name(rank)
        if rank in columns:
            raise BadConfig(
                "a column of the rank's name is there already", got=rank, fix="give another rank="
            )
    return TopOperator(by, _order(order, columns), n, rank, columns)


def _order(text: str, columns: pl.Schema) -> tuple[tuple[str, bool], ...]:
    """The columns of *text*, each with whether larger values come first."""
    found = []
    for part in text.split(","):
        words = part.split()
        if not 1 <= len(words) <= 2 or (len(words) == 2 and words[1].lower() not in ("asc", "desc")):
            raise BadConfig(
                "this is no order of rows", got=part.strip(), allowed=["columns, each with asc or desc"]
            )
        check_columns([words[0]], columns, f"in order {text!r}")
        if columns[words[0]].is_nested() or columns[words[0]] == pl.Object:
            raise BadConfig(f"column {words[0]!r} has no order", got=str(columns[words[0]]))
        found.append((words[0], len(words) == 2 and words[1].lower() == "desc"))
    return tuple(found)


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
