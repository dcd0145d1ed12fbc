"""The hidden columns of what operators give: numbers, and what each row does to the table of its key."""

from __future__ import annotations

import numpy as np
import polars as pl

from streamcore.batch import OFFSET, OP, OP_DELETE, OP_INSERT, OP_UPDATE_AFTER, SUB


def numbered(rows: pl.DataFrame, first: int, op: int = OP_INSERT) -> pl.DataFrame:
    """*rows* as an emission, numbered from *first* on; each does *op*."""
    return rows.with_columns(hidden(counted_from(first, rows.height), op))


def counted_from(first: int, count: int) -> pl.Series:
    """The numbers from *first* on, of *count* rows."""
    return pl.Series(OFFSET, np.arange(first, first + count), pl.Int64)


def hidden(numbers: pl.Series | pl.Expr, op: int | pl.Expr) -> list[pl.Expr]:
    """The hidden columns of rows with *numbers* that do *op*."""
    number = pl.lit(numbers) if isinstance(numbers, pl.Series) else numbers
    done = pl.lit(op, pl.UInt8) if isinstance(op, int) else op
    return [number.alias(OFFSET), pl.lit(0, pl.UInt32).alias(SUB), done.alias(OP)]


def upserts(there: pl.Expr) -> pl.Expr:
    """What updates do: put a row where it is *there*, and else delete the one with its key."""
    put, delete = pl.lit(OP_UPDATE_AFTER, pl.UInt8), pl.lit(OP_DELETE, pl.UInt8)
    return pl.when(there).then(put).otherwise(delete)
