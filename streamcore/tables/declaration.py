"""Tables as users declare them, checked: what is wrong is said when the topology is loaded."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from streamcore.aggregates.aggregation import Aggregation
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns
from streamcore.tables.group import GroupOperator
from streamcore.tables.regroup import RegroupOperator


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
