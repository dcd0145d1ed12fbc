"""Nested columns as JSON texts."""

from __future__ import annotations

import polars as pl


def as_json(name: str, dtype: pl.DataType) -> pl.Expr:
    """The column *name* as JSON texts; polars encodes structs only, so others are wrapped and unwrapped."""
    column = pl.col(name)
    if isinstance(dtype, pl.Struct):
        text = column.struct.json_encode()
    else:
        text = pl.struct(column.alias("v")).struct.json_encode().str.slice(len('{"v":')).str.head(-1)
    return pl.when(column.is_not_null()).then(text).alias(name)


def json_can_hold(dtype: pl.DataType) -> bool:
    """Whether a nested type has nothing inside that JSON lacks."""
    return not any(inside in str(dtype) for inside in ("Binary", "Object"))
