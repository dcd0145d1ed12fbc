"""The table of aggregates by their names in SQL text, and which types each takes.

One's own are added to them by :func:`with_own`. FILTER comes by itself; ``distinct`` does not.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from streamcore.aggregates.hashing import hashable
from streamcore.aggregates.kinds import (
    Aggregate,
    AnyValue,
    ArgBest,
    Collect,
    Count,
    CountDistinct,
    End,
    Fold,
    Mean,
    Rows,
    Top,
    Variance,
    WideSum,
    larger,
    smaller,
    sum_or_null,
)
from streamcore.aggregates.sketches import HyperLogLog, Quantile
from streamcore.errors import BadConfig

Maker: TypeAlias = Callable[[pl.DataType, "tuple[int | float, ...]"], Aggregate]
"""Makes the aggregate for an argument of a type and the constants written after it; BadConfig if it can't."""


@dataclass(frozen=True)
class Two:
    """A maker of aggregates of two columns, whose argument is a struct of ``value`` and ``by``."""

    make: Maker

    def __call__(self, dtype: pl.DataType, constants: tuple[int | float, ...]) -> Aggregate:
        return self.make(dtype, constants)


def arguments_of(maker: Maker | None) -> int:
    """How many columns the aggregates of *maker* take."""
    return 2 if isinstance(maker, Two) else 1


def _plain(name: str, make: Callable[[pl.DataType], Aggregate]) -> Maker:
    """A maker for an aggregate that takes no constants."""

    def maker(dtype: pl.DataType, constants: tuple[int | float, ...]) -> Aggregate:
        if constants:
            raise BadConfig(f"{name} takes one argument", got=1 + len(constants))
        return make(dtype)

    return maker


def _numeric(name: str, make: Callable[[pl.DataType], Aggregate], *, boolean: bool = False) -> Maker:
    """A maker for an aggregate of numbers, with *boolean* also of true (1) and false (0)."""

    def check(dtype: pl.DataType) -> Aggregate:
        numeric = dtype.is_numeric() and dtype != pl.UInt128
        if not numeric and not (boolean and dtype == pl.Boolean):
            raise BadConfig(f"{name} takes numbers", got=str(dtype), fix="cast the argument")
        return make(dtype)

    return _plain(name, check)


def _boolean(name: str, fold: Callable[[pl.Expr], pl.Expr]) -> Maker:
    def check(dtype: pl.DataType) -> Aggregate:
        if dtype != pl.Boolean:
            raise BadConfig(f"{name} takes conditions", got=str(dtype), allowed=["Boolean"])
        return Fold(fold, dtype)

    return _plain(name, check)


def _summing(dtype: pl.DataType) -> Aggregate:
    if isinstance(dtype, pl.Decimal):
        return WideSum(pl.Decimal(38, dtype.scale))
    if dtype == pl.Int128:
        return WideSum(dtype)
    return Fold(sum_or_null, pl.Float64() if dtype.is_float() else pl.Int128(), operator.add)


def _averaging(dtype: pl.DataType) -> Aggregate:
    return Mean(pl.Int128() if dtype.is_integer() and dtype != pl.Int128 else pl.Float64())


def _extreme(name: str, largest: bool) -> Maker:
    """min or max of a type with an order; with a constant n the list of the n best."""

    def maker(dtype: pl.DataType, constants: tuple[int | float, ...]) -> Aggregate:
        _check_order(name, dtype)
        if not constants:
            simple = dtype.is_integer() or dtype.is_temporal()
            if not largest:
                return Fold(pl.Expr.min, dtype, smaller if simple else None)
            # NaN is the largest number; polars' plain max passes over it.
            return Fold(
                pl.Expr.nan_max if dtype.is_float() else pl.Expr.max, dtype, larger if simple else None
            )
        return Top(_best_count(f"{name}(x, n)", constants), largest)

    return maker


def _arg_best(name: str, largest: bool) -> Maker:
    """arg_max or arg_min of two arguments; with a constant n the list of the n best."""

    def maker(dtype: pl.DataType, constants: tuple[int | float, ...]) -> Aggregate:
        assert isinstance(dtype, pl.Struct)
        _check_order(name, pl.Schema({field.name: field.dtype for field in dtype.fields})["by"])
        if not constants:
            return ArgBest(1, largest)
        return ArgBest(_best_count(f"{name}(x, y, n)", constants), largest, listed=True)

    return Two(maker)


def _check_order(name: str, dtype: pl.DataType) -> None:
    if dtype.is_nested() or isinstance(dtype, (pl.Object, pl.Null, pl.Categorical)):
        raise BadConfig(f"{name} takes values with an order", got=str(dtype), fix="cast the argument")


def _best_count(call: str, constants: tuple[int | float, ...]) -> int:
    (count, *more) = constants
    if more or not isinstance(count, int) or count < 1:
        raise BadConfig(f"{call} takes one whole number n from 1 on", got=constants[-1])
    return count


def _approx_count_distinct(dtype: pl.DataType, constants: tuple[int | float, ...]) -> Aggregate:
    name = "approx_count_distinct"
    if not hashable(dtype):
        raise BadConfig(f"{name} takes values that can be hashed", got=str(dtype), fix="cast the argument")
    (precision, *more) = constants or (12,)
    if more or not isinstance(precision, int) or not 4 <= precision <= 18:
        raise BadConfig(
            f"{name}(x, p) takes a precision: 2^p registers", got=constants[-1], allowed=["4 to 18"]
        )
    return HyperLogLog(precision)


def _quantile(name: str, q: float | None = None) -> Maker:
    """A quantile of numbers: the constant after the argument, unless it is *q*."""

    def maker(dtype: pl.DataType, constants: tuple[int | float, ...]) -> Aggregate:
        if not dtype.is_numeric():
            raise BadConfig(f"{name} takes numbers", got=str(dtype), fix="cast the argument")
        wanted = list(constants) if q is None else [q, *constants]
        if len(wanted) != 1 or not 0 <= wanted[0] <= 1:
            what = f"{name}(x, q) takes one number from 0 to 1" if q is None else f"{name} takes one argument"
            raise BadConfig(what, got=list(constants))
        return Quantile(float(wanted[0]))

    return maker


def _variance(name: str, ddof: int, root: bool) -> Maker:
    return _numeric(name, lambda dtype: Variance(ddof, root))


COUNT_ROWS = "count(*)"
AGGREGATES: Mapping[str, Maker] = {
    COUNT_ROWS: _plain("count", lambda dtype: Rows()),
    "count": _plain("count", lambda dtype: Count()),
    "count(distinct)": _plain("count(distinct)", lambda dtype: CountDistinct()),
    "sum": _numeric("sum", _summing, boolean=True),
    "avg": _numeric("avg", _averaging),
    "min": _extreme("min", largest=False),
    "max": _extreme("max", largest=True),
    "stddev": _variance("stddev", ddof=1, root=True),
    "stddev_samp": _variance("stddev_samp", ddof=1, root=True),
    "stddev_pop": _variance("stddev_pop", ddof=0, root=True),
    "variance": _variance("variance", ddof=1, root=False),
    "var_samp": _variance("var_samp", ddof=1, root=False),
    "var_pop": _variance("var_pop", ddof=0, root=False),
    "first": _plain("first", lambda dtype: End(last=False)),
    "last": _plain("last", lambda dtype: End(last=True)),
    "any_value": _plain("any_value", lambda dtype: AnyValue()),
    "bool_and": _boolean("bool_and", pl.Expr.min),
    "bool_or": _boolean("bool_or", pl.Expr.max),
    "list": _plain("list", lambda dtype: Collect()),
    "array_agg": _plain("array_agg", lambda dtype: Collect()),
    "approx_count_distinct": _approx_count_distinct,
    "quantile": _quantile("quantile"),
    "approx_quantile": _quantile("approx_quantile"),
    "median": _quantile("median", 0.5),
    "arg_max": _arg_best("arg_max", largest=True),
    "arg_min": _arg_best("arg_min", largest=False),
    "max_by": _arg_best("max_by", largest=True),
    "min_by": _arg_best("min_by", largest=False),
}
"""The built-in aggregates by their names in SQL text; to add one is to add an entry."""
ADVICE: Mapping[str, str] = {
    "approx_distinct": "write approx_count_distinct(x), or count(distinct x), which is exact",
    "every": "write bool_and(x)",
    "first_value": "write first(x)",
    "last_value": "write last(x)",
    "mean": "write avg(x)",
    "percentile": "write quantile(x, q) with q from 0 to 1",
}
"""What to write instead of aggregates that other systems have."""


def with_own(own: Mapping[str, Maker]) -> Mapping[str, Maker]:
    """The built-in aggregates and *own* ones; BadConfig for a name that is taken or can't be one."""
    for name in own:
        if not name.isidentifier() or name != name.lower():
            raise BadConfig("this can't be the name of an aggregate", got=name, fix="use a-z, 0-9 and _")
        if name in AGGREGATES:
            raise BadConfig("this aggregate is built in", got=name, fix="give it another name")
    return {**AGGREGATES, **own}
