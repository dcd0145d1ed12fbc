"""Aggregates in SQL text: their values by example, what they keep, and what is refused."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
import pytest

from streamcore.aggregates.aggregation import Aggregation
from streamcore.aggregates.kinds import Exprs
from streamcore.aggregates.table import AGGREGATES
from streamcore.errors import BadConfig

COLUMNS = pl.Schema(
    {
        "key": pl.String,
        "price": pl.Int64,
        "user": pl.String,
        "ok": pl.Boolean,
        "at": pl.Datetime("us"),
        "tags": pl.List(pl.String),
        "cost": pl.Decimal(10, 2),
    }
)
DAY = [dt.datetime(2026, 1, day) for day in (1, 2, 3, 4)]
ROWS = pl.DataFrame(
    [
        ("a", None, "x", True, DAY[1], ["p"], Decimal("1.10")),
        ("a", 5, "y", None, DAY[0], ["p"], Decimal("2.20")),
        ("b", None, None, None, None, None, None),
        ("a", 20, "x", False, DAY[2], [], Decimal("3.30")),
        ("a", 30, None, False, DAY[3], None, None),
    ],
    schema=COLUMNS,
    orient="row",
)


def run(aggregation: Aggregation, *pieces: pl.DataFrame) -> dict[str, dict[str, object]]:
    """The results by key, of the pieces' partials merged one after the other."""
    state, *others = [piece.group_by("key").agg(aggregation.partial()) for piece in pieces]
    for other in others:
        state = pl.concat([state, other]).group_by("key").agg(aggregation.merge())
    rows = state.select("key", *aggregation.final()).to_dicts()
    return {row.pop("key"): row for row in rows}


@pytest.mark.parametrize(
    ("text", "expected", "of_nulls"),
    [
        ("count(*)", 4, 1),
        ("count(1)", 4, 1),
        ("COUNT( price )", 3, 0),
        ("count(*) filter (where price > 10)", 2, 0),
        ("count(distinct user)", 2, 0),
        ("count(distinct tags)", 2, 0),
        ("sum(price)", 55, None),
        ("sum(ok)", 1, None),
        ("sum(cost)", Decimal("6.60"), None),
        ("avg(price)", 55 / 3, None),
        ("min(user)", "x", None),
        ("max(at)", DAY[3], None),
        ("first(price)", None, None),
        ("first(price) filter (where price is not null)", 5, None),
        ("last(price)", 30, None),
        ("last(price) filter (where price < 10)", 5, None),
        ("last(user)", None, None),
        ("any_value(price)", 5, None),
        ("bool_and(ok)", False, None),
        ("bool_or(price > 25)", True, None),
        ("list(user)", ["x", "y", "x", None], [None]),
        ("array_agg(user) filter (where price > 5)", ["x", None], None),
        ("max(price, 2)", [30, 20], None),
        ("min(at, 9)", DAY, None),
        ("max(coalesce(price, 7), 2)", [30, 20], [7]),
        ("arg_max(user, price)", "x", None),
        ("arg_min(price, at) filter (where price > 5)", 20, None),
        ("max_by(price, coalesce(ok, true), 2)", [5, 20], None),
        ("min_by(price, price, 9)", [5, 20, 30], None),
        ("var_pop(price)", pytest.approx(950 / 9, rel=1e-12), None),
        ("stddev(price) filter (where price = 5)", None, None),
        ("stddev_pop(price) filter (where price = 5)", 0.0, None),
        ("sum(price) filter (where price > 10) / count(*)", 12.5, None),
        ("coalesce(sum(price), 0) + count(*)", 59, 1),
        ("case when count(*) > 2 then 'many' else 'few, (or none)' end", "many", "few, (or none)"),
        ("max(case when ok then price else -1 end)", -1, -1),
        ("count(*) filter (where \"user\" = ')') -- é (", 0, 0),
    ],
)  # fmt: skip
def test_values(text: str, expected: object, of_nulls: object) -> None:
    """Group a has values, group b one row of nulls; whole and cut after each row."""
    aggregation = Aggregation.of({"r": text}, COLUMNS)
    for pieces in ([ROWS], [ROWS[at : at + 1] for at in range(ROWS.height)]):
        results = run(aggregation, *pieces)
        assert results["a"]["r"] == expected
        assert results["b"]["r"] == of_nulls


def test_the_result_may_be_called_like_a_column() -> None:
    """Also where a column is called like a call's text, or like what would be kept."""
    columns = pl.Schema({**COLUMNS, "count(*)": pl.Int64, "_a0": pl.Int64})
    texts = {"price": "max(price)", "_a1": 'count(*) + sum("count(*)")', "n": 'max("_a0")'}
    aggregation = Aggregation.of(texts, columns)
    rows = ROWS.with_columns(pl.lit(10).alias("count(*)"), pl.lit(7).alias("_a0"))
    assert run(aggregation, rows, rows)["b"] == {"price": None, "_a1": 22, "n": 7}
    assert list(aggregation.columns) == list(texts)
    assert "_a0" not in aggregation.partials


def test_a_column_called_like_a_call_is_not_the_call() -> None:
    columns = pl.Schema({**COLUMNS, "count(*)": pl.Int64})
    with pytest.raises(BadConfig, match="a column outside of the aggregates"):
        Aggregation.of({"r": 'count(*) + "count(*)"'}, columns)


def test_what_is_the_same_is_kept_once() -> None:
    """Spaces and case don't matter, nor does what is only made of it in the end."""
    texts = {
        "a": "sum(price)",
        "b": "SUM( price ) / count(*)",
        "c": "count(*)",
        "d": "stddev(price)",
        "e": "var_pop(price)",
        "f": "sum(price) filter (where ok)",
    }
    assert Aggregation.of(texts, COLUMNS).partials == {
        "_a0": pl.Int128,
        "_a1": pl.Int64,
        "_a2": pl.Int64,
        "_a3": pl.Float64,
        "_a4": pl.Float64,
        "_a5": pl.Int128,
    }


def test_result_types() -> None:
    texts = {
        "n": "count(distinct user)",
        "total": "sum(price)",
        "bigint": "cast(sum(price) as bigint)",
        "cost": "sum(cost)",
        "mean": "avg(cost)",
        "users": "list(user)",
        "at": "last(at)",
    }
    assert Aggregation.of(texts, COLUMNS).columns == {
        "n": pl.Int64,
        "total": pl.Int128,
        "bigint": pl.Int64,
        "cost": pl.Decimal(38, 2),
        "mean": pl.Float64,
        "users": pl.List(pl.String),
        "at": pl.Datetime("us"),
    }


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt8, pl.Int32, pl.Int64, pl.UInt64])
def test_sums_of_integers_do_not_wrap(dtype: type[pl.DataType]) -> None:
    """Far beyond the type's own range, in the rows of one piece and over merges."""
    columns = pl.Schema({"key": pl.String, "x": dtype})
    largest = int(pl.select(dtype.max()).item())
    rows = pl.DataFrame({"key": ["a"] * 3, "x": [largest] * 3}, schema=columns)
    aggregation = Aggregation.of({"total": "sum(x)", "mean": "avg(x)"}, columns)
    assert run(aggregation, rows, rows)["a"] == {"total": 6 * largest, "mean": float(largest)}


@pytest.mark.parametrize("dtype", [pl.Int128(), pl.Decimal(38, 0)], ids=str)
def test_sums_beyond_38_digits_are_null(dtype: pl.DataType) -> None:
    """Not wrapped; a sum that is only too large on its way is right in the end."""
    columns = pl.Schema({"key": pl.String, "x": dtype})
    large = 9 * 10**37
    values = pl.Series("x", [large, large, -large, 7]).cast(dtype)
    rows = pl.DataFrame({"key": ["over", "back", "back", "back"], "x": values})
    more = pl.DataFrame({"key": ["over", "back"], "x": values[:2]})
    aggregation = Aggregation.of({"total": "sum(x)"}, columns)
    results = run(aggregation, more, rows, more[:1])
    assert results["over"]["total"] is None
    assert results["back"]["total"] == large + 7


def test_variance_keeps_its_digits_far_from_zero() -> None:
    """Sums of squares would lose all of them; so would merging by them."""
    columns = pl.Schema({"key": pl.String, "x": pl.Float64})
    rows = pl.DataFrame({"key": ["a"] * 4, "x": [1e9 + x for x in (4.0, 7.0, 13.0, 16.0)]}, schema=columns)
    aggregation = Aggregation.of({"v": "variance(x)"}, columns)
    for pieces in ([rows], [rows[:1], rows[1:]], [rows[at : at + 1] for at in range(4)]):
        assert run(aggregation, *pieces)["a"]["v"] == pytest.approx(30.0, rel=1e-12)


def test_merging_a_lone_piece_changes_no_bit() -> None:
    """So that a state may be merged again and again with nothing new for it."""
    columns = pl.Schema({"key": pl.String, "x": pl.Float64})
    keys = [f"{n % 140}" for n in range(980)]
    values = [1 / n if n % 140 else None for n in range(980)]
    rows = pl.DataFrame({"key": keys, "x": values}, schema=columns)
    texts = {"s": "sum(x)", "m": "avg(x)", "v": "var_pop(x)", "t": "max(x, 2)", "d": "count(distinct x)"}
    aggregation = Aggregation.of(texts, columns)
    state = rows.group_by("key").agg(aggregation.partial()).sort("key")
    assert state.group_by("key").agg(aggregation.merge()).sort("key").equals(state)


def test_nan_is_the_largest_number() -> None:
    columns = pl.Schema({"key": pl.String, "x": pl.Float64})
    rows = pl.DataFrame({"key": ["a"] * 3, "x": [1.0, float("nan"), 2.0]}, schema=columns)
    result = run(Aggregation.of({"low": "min(x)", "high": "max(x)", "top": "max(x, 2)"}, columns), rows)["a"]
    assert str(result) == "{'low': 1.0, 'high': nan, 'top': [nan, 2.0]}"


def test_a_sum_cast_down_fails_rather_than_wraps() -> None:
    columns = pl.Schema({"key": pl.String, "x": pl.Int64})
    rows = pl.DataFrame({"key": ["a"] * 2, "x": [2**63 - 1] * 2}, schema=columns)
    aggregation = Aggregation.of({"total": "cast(sum(x) as bigint)"}, columns)
    with pytest.raises(pl.exceptions.InvalidOperationError):
        run(aggregation, rows)


BUILT_IN = (
    "count, sum, avg, min, max, stddev, stddev_samp, stddev_pop, variance, var_samp, var_pop, first, last, "
    "any_value, bool_and, bool_or, list, array_agg, "
    "approx_count_distinct, quantile, approx_quantile, median, arg_max, arg_min, max_by, min_by"
)
EXIST = "key, price, user, ok, at, tags, cost"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sum(prise)", "unknown column in 'prise', in 'sum(prise)', got 'prise', allowed: " + EXIST
         + "; did you mean 'price'?"),
        ("count(*) / prise", "unknown column in 'count(*) / prise', got 'prise', allowed: " + EXIST
         + "; did you mean 'price'?"),
        ("sum(price) / price", "a column outside of the aggregates in 'sum(price) / price', got 'price', "
         f"allowed: {BUILT_IN}; put it into one, e.g. first(price)"),
        ("count(*) + corr(price, price)", "a column outside of the aggregates in "
         f"'count(*) + corr(price, price)', got 'price', allowed: {BUILT_IN}; "
         "put it into one, e.g. first(price)"),
        ("summ(price)", "no aggregate in 'summ(price)', got 'summ', "
         f"allowed: {BUILT_IN}; did you mean 'sum'?"),
        ("count(*) min(price)", "cannot parse the SQL expression 'count(*) min(price)', got 'min(price)'; "
         "put an operator before it"),
        ("count(*) + summ(price)", "unknown function in 'count(*) + summ(price)', got 'summ', "
         f"allowed: {BUILT_IN}; did you mean 'sum'?"),
        ("mean(price)", f"no aggregate in 'mean(price)', got 'mean', allowed: {BUILT_IN}; write avg(x)"),
        ("approx_distinct(user)", "no aggregate in 'approx_distinct(user)', got 'approx_distinct', "
         f"allowed: {BUILT_IN}; "
         "write approx_count_distinct(x), or count(distinct x), which is exact"),
        ("approx_count_distinct(user, 2)", "approx_count_distinct(x, p) takes a precision: 2^p registers, "
         "in 'approx_count_distinct(user, 2)', got 2, allowed: 4 to 18"),
        ("approx_count_distinct(tags)", "approx_count_distinct takes values that can be hashed, "
         "in 'approx_count_distinct(tags)', got 'List(String)'; cast the argument"),
        ("quantile(price, 2)",
         "quantile(x, q) takes one number from 0 to 1, in 'quantile(price, 2)', got [2]"),
        ("median(price, 0.5)", "median takes one argument, in 'median(price, 0.5)', got [0.5]"),
        ("median(user)", "median takes numbers, in 'median(user)', got 'String'; cast the argument"),
        ("price + 1", f"no aggregate in 'price + 1', allowed: {BUILT_IN}"),
        ("max(sum(price))", "an aggregate inside of another in 'max(sum(price))', got 'sum'"),
        ("sum(price) filter (where max(price) > 1)",
         "an aggregate inside of another in 'sum(price) filter (where max(price) > 1)', got 'max'"),
        ("sum(user)", "sum takes numbers, in 'sum(user)', got 'String'; cast the argument"),
        ("avg(ok)", "avg takes numbers, in 'avg(ok)', got 'Boolean'; cast the argument"),
        ("max(tags)",
         "max takes values with an order, in 'max(tags)', got 'List(String)'; cast the argument"),
        ("bool_and(price)", "bool_and takes conditions, in 'bool_and(price)', got 'Int64', allowed: Boolean"),
        ("sum(distinct price)", "unknown aggregate, in 'sum(distinct price)', got 'sum(distinct)', "
         f"allowed: count(*), count, count(distinct), {BUILT_IN.removeprefix('count, ')}"),
        ("sum(*)", "* goes with count only, in 'sum(*)'; name a column"),
        ("sum(1)", "an aggregate of a constant, in 'sum(1)', got '1'; name a column"),
        ("sum()", "an aggregate without an argument in 'sum()'; name a column"),
        ("avg(price, 2)", "avg takes one argument, in 'avg(price, 2)', got 2"),
        ("max(price, 0)", "max(x, n) takes one whole number n from 1 on, in 'max(price, 0)', got 0"),
        ("max(price, at)", "max takes another number of columns, in 'max(price, at)', got 2, allowed: 1"),
        ("arg_max(price)", "arg_max takes another number of columns, in 'arg_max(price)', got 1, allowed: 2"),
        ("max(price, 2, at)", "the last arguments must be numbers in 'max(price, 2, at)', got 'at'"),
        ("sum(price) over (partition by user)", "'sum(price) over (partition by user)' has a window function "
         "(OVER); the step's own window groups the rows"),
        ("sum(price) filter (price > 1)",
         "FILTER without WHERE in 'sum(price) filter (price > 1)'; write filter (where condition)"),
        ("sum(price) filter (where true)",
         "the FILTER names no column, in 'sum(price) filter (where true)'; leave it out"),
        ("sum(price) filter (where cost)", "the condition 'cost' must be true or false, "
         "in 'sum(price) filter (where cost)', got 'Decimal(precision=10, scale=2)', allowed: Boolean"),
        ("sum(price", "cannot parse the SQL expression 'sum(price': an open bracket"),
        ("count(*) || 'x", "cannot parse the SQL expression \"count(*) || 'x\": an open quote or comment"),
        ("max(now())", "'now' in 'now()' asks the clock, and a replay would give another result, "
         "in 'max(now())'; use the event's own time column"),
        ("count(*) + now()", "'now' in 'count(*) + now()' asks the clock, and a replay would give another "
         "result; use the event's own time column"),
    ],
)  # fmt: skip
def test_messages(text: str, message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        Aggregation.of({"r": text}, COLUMNS)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("sum(price) + min(user)", "types clash in 'sum(price) + min(user)'"),
        ("sum(price order by at)", "cannot parse the SQL expression 'price order by at'"),
        ("sum(quantile_disc(price, 0.5))", "'quantile_disc(price, 0.5)' looks at more than one row"),
        ("quantile_disc(sum(price), 0.5)", "'quantile_disc(sum(price), 0.5)' looks at more than one row"),
        ("sum(_offset)", "unknown column in '_offset'"),
        ("(select max(price) from t)", "cannot parse the SQL expression '(select max(price) from t)'"),
    ],
)
def test_refusals_in_words_of_polars(text: str, part: str) -> None:
    with pytest.raises(BadConfig) as caught:
        Aggregation.of({"r": text}, COLUMNS)
    assert part in str(caught.value)


@pytest.mark.parametrize("name", ["", "_offset", "_op"])
def test_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(BadConfig, match="this can't be a column's name"):
        Aggregation.of({name: "count(*)"}, COLUMNS)


def test_none_at_all_is_refused() -> None:
    with pytest.raises(BadConfig, match="one or more"):
        Aggregation.of({}, COLUMNS)


@dataclass(frozen=True)
class Product:
    """The example of the table's docstring, with a type and a number of columns to merge to."""

    merged: pl.DataType
    columns: int = 1
    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        return (values.cast(pl.Float64).product(),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return (kept[0].product().cast(self.merged),) * self.columns

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return kept[0]


class Letters(Product):
    """The product of the lengths of texts, made for any type by mistake."""

    def partial(self, values: pl.Expr) -> Exprs:
        return super().partial(values.str.len_chars())


def test_ones_own_aggregate_is_an_entry() -> None:
    own = {**AGGREGATES, "product": lambda dtype, constants: Product(pl.Float64())}
    aggregation = Aggregation.of({"r": "product(price) filter (where price < 25) + count(*)"}, COLUMNS, own)
    assert run(aggregation, ROWS[:2], ROWS[2:])["a"]["r"] == 104.0


@pytest.mark.parametrize(
    ("product", "argument", "message"),
    [
        (Product(pl.Int64()), "price", "merge gives other types than partial"),
        (Product(pl.Float64(), 2), "price", "merge gives another number of columns than partial"),
        (Letters(pl.Float64()), "price", "the aggregate can't be computed"),
    ],
)
def test_ones_own_aggregate_must_fit(product: Product, argument: str, message: str) -> None:
    own = {**AGGREGATES, "product": lambda dtype, constants: product}
    with pytest.raises(BadConfig, match=message):
        Aggregation.of({"r": f"product({argument})"}, COLUMNS, own)
