"""What is wrong with a declaration of best or first rows is said when the topology is loaded."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from streamcore.errors import BadConfig
from streamcore.tables.declaration import first_operator, top_operator
from streamcore.tables.first import FirstOperator
from streamcore.tables.ordering import Order, ordering
from streamcore.tables.top import TopOperator

COLUMNS = pl.Schema(
    {
        "auction": pl.Int64,
        "price": pl.Float64,
        "date_time": pl.Datetime("us"),
        "tags": pl.List(pl.String),
        "who": pl.Struct({"name": pl.String}),
        'a "b", c': pl.String,
        "desc": pl.Int64,
    }
)


def top(by: tuple[str, ...] = ("auction",), order: str = "price desc", **options: Any) -> TopOperator:
    return top_operator(by, order, options.pop("columns", COLUMNS), **{"n": 1, **options})


def first(by: tuple[str, ...] = ("auction",), **options: Any) -> FirstOperator:
    given = {"stream": "bids", "time": "date_time", **options}
    return first_operator(by, given.pop("columns", COLUMNS), **given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price", [Order("price")]),
        ("price desc, date_time asc", [Order("price", True), Order("date_time")]),
        ("  price   DESC,auction\n", [Order("price", True), Order("auction")]),
        ('"a ""b"", c" desc, "desc"', [Order('a "b", c', True), Order("desc")]),
        ("desc desc", [Order("desc", True)]),
    ],
)
def test_an_order_is_columns_and_their_directions(text, expected):
    assert ordering(text, COLUMNS) == tuple(expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "this is no order of rows"),
        ("price,", "this is no order of rows"),
        ("price descending", "this is no order of rows"),
        ("price + 1", "this is no order of rows"),
        ("price desc nulls first", "nulls always stand last"),
        ("pric desc", "did you mean 'price'?"),
        ("_offset", "unknown column in order '_offset'"),
        ("price, price desc", "order 'price, price desc' has a column twice, got 'price'"),
        ("tags", "rows can't be ordered by 'tags'"),
        ("who desc", "rows can't be ordered by 'who'"),
    ],
)
def test_an_order_that_is_none_is_refused(text, says):
    with pytest.raises(BadConfig, match=says.replace("?", r"\?")):
        ordering(text, COLUMNS)
    with pytest.raises(BadConfig):
        top(order=text)


@pytest.mark.parametrize("declared", [top, first])
@pytest.mark.parametrize(
    ("by", "says"),
    [
        ((), "needs the columns that name its rows"),
        (("auctoin",), "did you mean 'auction'"),
        (("auction", "price", "auction"), "a column is there twice"),
        (("tags",), "'tags' can't be a key"),
        (("who",), "'who' can't be a key"),
    ],
)
def test_groups_that_are_none_are_refused(declared, by, says):
    with pytest.raises(BadConfig, match=says):
        declared(by)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": 0}, "at least 1, got 0"),
        ({"n": 1_000_001}, "allowed: 1 to 1000000"),
        ({"n": 3, "rank": "price"}, "a column with the rank's name, got 'price'"),
        ({"n": 3, "columns": pl.Schema({**COLUMNS, "rank": pl.Int64})}, "got 'rank'; give the rank another"),
        ({"rank": ""}, "this can't be a column's name"),
        ({"rank": "_offset"}, "this can't be a column's name"),
        ({"rank": "_n"}, "this can't be a column's name"),
        ({"columns": pl.Schema({**COLUMNS, "_n": pl.Int64})}, "the state needs this column's name, got '_n'"),
    ],
)
def test_ranks_that_are_none_are_refused(options, says):
    with pytest.raises(BadConfig, match=says):
        top(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"within": 1, "time": None}, "stream 'bids' has no event time"),
        ({"within": 1, "time": "date"}, "unknown column as event time"),
        ({"within": 0}, "must be longer than no time"),
        ({"within": -1}, "must be longer than no time"),
        ({"within": 1 << 62}, "must be shorter"),
        (
            {"by": ("_passed",), "columns": pl.Schema({"_passed": pl.Int64})},
            "the state needs this column's name",
        ),
    ],
)
def test_times_within_which_rows_are_left_out_are_checked(options, says):
    with pytest.raises(BadConfig, match=says):
        first(**options)


def test_the_rank_is_a_column_and_a_key_where_there_are_several():
    latest, best, named = top(), top(n=3), top(rank="nr")
    assert (latest.key, latest.columns) == (("auction",), COLUMNS)
    assert (best.key, best.columns) == (("auction", "rank"), pl.Schema({**COLUMNS, "rank": pl.Int64}))
    assert (named.key, named.columns) == (("auction",), pl.Schema({**COLUMNS, "nr": pl.Int64}))


def test_definitions_differ_where_results_do():
    other = pl.Schema({**COLUMNS, "price": pl.Float32})
    tops = [top(), top(n=2), top(("price",)), top(order="price"), top(n=2, rank="nr"), top(columns=other)]
    firsts = [first(), first(("price",)), first(within=1), first(within=2), first(columns=other)]
    texts = [op.definition for op in (*tops, *firsts)]
    assert len(set(texts)) == len(texts)
    assert texts == [op.definition for op in (*tops, *firsts)]
    assert first().definition == first(time=None).definition
