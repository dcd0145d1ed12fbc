"""The order of rows as users write it: ``"price desc, date_time"``."""

from __future__ import annotations

import re
from typing import NamedTuple

import polars as pl

from streamcore.errors import BadConfig
from streamcore.expressions import check_columns

_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\W\d]\w*))(?:\s+(asc|desc))?\s*(,|\Z)', re.I)


class Order(NamedTuple):
    """Rows with a smaller value of *column* stand first, or those with a greater one; nulls last."""

    column: str
    descending: bool = False


def ordering(text: str, columns: pl.Schema) -> tuple[Order, ...]:
    """The columns of *text*, the one that counts most first. A name that is no word is in double quotes.

    Nulls stand last, ascending or not. NaN is greater than any other number, and -0.0 equals 0.0.

    BadConfig for what is no list of columns, unknown columns, one that is there twice, and one whose
    values have no order.
    """
    orders = _items(text)
    check_columns([order.column for order in orders], columns, f"in order {text!r}")
    seen: set[str] = set()
    for column, _ in orders:
        if column in seen:
            raise BadConfig(f"order {text!r} has a column twice", got=column, fix="leave one out")
        seen.add(column)
        if columns[column].is_nested() or columns[column] == pl.Object:
            raise BadConfig(f"rows can't be ordered by {column!r}", got=str(columns[column]))
    return tuple(orders)


def _items(text: str) -> list[Order]:
    orders, position, more = [], 0, True
    while more:
        item = _ITEM.match(text, position)
        if item is None:
            raise BadConfig(
                "this is no order of rows",
                got=text,
                allowed=["price desc, date_time"],
                fix="name columns, each with asc or desc; other names than words go in double quotes; "
                "nulls always stand last",
            )
        quoted, word, direction, comma = item.groups()
        name = quoted.replace('""', '"') if quoted else word
        orders.append(Order(name, (direction or "").lower() == "desc"))
        position, more = item.end(), bool(comma)
    return orders
