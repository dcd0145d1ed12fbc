"""Which columns of a table may hold the version: those that have each value of the stream as it is."""

from __future__ import annotations

import polars as pl
import pytest

from streamcore.errors import BadConfig
from streamcore.sinks import mysql_columns, postgres_columns, sqlite_columns
from streamcore.sinks.merging import Merge, Pair


def postgres(kind: str, shown: str, dtype: pl.DataType) -> Pair:
    return postgres_columns.ColumnPair(postgres_columns.TableColumn("v", kind, "own", base=shown), dtype)


def mysql(kind: str, shown: str, dtype: pl.DataType) -> Pair:
    return mysql_columns.ColumnPair(mysql_columns.TableColumn("v", kind, shown), dtype)


def sqlite(declared: str, dtype: pl.DataType) -> Pair:
    return sqlite_columns.ColumnPair(sqlite_columns.TableColumn("v", declared), dtype)


GOOD = [
    postgres("int8", "bigint", pl.UInt64()),
    postgres("float8", "double precision", pl.Int32()),
    postgres("float8", "double precision", pl.Float64()),
    postgres("float4", "real", pl.Float32()),
    postgres("float4", "real", pl.UInt16()),
    postgres("numeric", "numeric", pl.Float64()),
    postgres("numeric", "numeric(20,0)", pl.UInt64()),
    postgres("timestamptz", "timestamp with time zone", pl.Datetime("us", "UTC")),
    postgres("timestamp", "timestamp(3) without time zone", pl.Datetime("ms")),
    postgres("date", "date", pl.Date()),
    mysql("bigint", "bigint", pl.Int64()),
    mysql("double", "double", pl.Float64()),
    mysql("double", "double(10,2)", pl.Int32()),
    mysql("datetime", "datetime", pl.Datetime("us")),
    sqlite("integer", pl.Int64()),
    sqlite("real", pl.Float64()),
    sqlite("real", pl.UInt32()),
    sqlite("numeric", pl.Int64()),
    sqlite("text", pl.Datetime("us", "UTC")),
]
BAD = [
    postgres("float8", "double precision", pl.Int64()),
    postgres("float4", "real", pl.Float64()),
    postgres("float4", "real", pl.Int32()),
    postgres("numeric", "numeric(9,2)", pl.Float64()),
    postgres("timestamp", "timestamp(3) without time zone", pl.Datetime("us")),
    postgres("timestamp", "timestamp without time zone", pl.Datetime("ns")),
    mysql("double", "double", pl.UInt64()),
    mysql("float", "float", pl.Float64()),
    mysql("double", "double(10,2)", pl.Float64()),
    mysql("datetime", "datetime(6)", pl.Datetime("ns")),
    mysql("year", "year", pl.Int16()),
    sqlite("double", pl.Int64()),
    sqlite("text", pl.Datetime("ns")),
]


@pytest.mark.parametrize("pair", GOOD, ids=str)
def test_a_column_that_has_each_value_may_be_the_version(pair: Pair) -> None:
    Merge(("id",), version="v").check_stored([pair], "x")


@pytest.mark.parametrize("pair", BAD, ids=str)
def test_a_coarser_one_may_not_unless_it_is_not_the_version(pair: Pair) -> None:
    """Of two rows in a batch the older one is left out by the stream's values, later by the table's."""
    with pytest.raises(BadConfig, match="does not have each value"):
        Merge(("id",), version="v").check_stored([pair], "x")
    Merge(("id",), version="n").check_stored([pair], "x")
    Merge(("id",)).check_stored([pair], "x")
