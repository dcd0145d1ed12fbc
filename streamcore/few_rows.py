"""Expressions on few rows, by polars' series and without its query engine, which costs as much as hundreds.

Only what a condition of a stream mostly is: columns compared with each other and with constants, ``and``,
``or``, ``not``, ``is null``, and ``case when``. The tree of the expression is walked once, at load; whatever
else is in it, a type or a word that a later polars may bring, leaves all of it to the engine.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import orjson
import polars as pl

FEW = 256
"""Up to so many rows the engine's call is felt."""

Values = Callable[[pl.DataFrame], pl.Series]
"""Of a frame one value a row."""
Constant: TypeAlias = int | float | str | bool

_COMPARED: Mapping[str, Callable[[Any, Any], Any]] = {
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtEq": operator.le,
    "Gt": operator.gt,
    "GtEq": operator.ge,
}
_JOINED: Mapping[str, Callable[[Any, Any], Any]] = {"And": operator.and_, "Or": operator.or_}
_TURNED: Mapping[str, Callable[[pl.Series], pl.Series]] = {
    "Not": operator.invert,
    "IsNull": pl.Series.is_null,
    "IsNotNull": pl.Series.is_not_null,
}
_TYPES = (pl.Int64, pl.Float64, pl.String, pl.Boolean)
_EXACT = 1 << 53
"""Integers up to this one are floats as well."""


class _Part(NamedTuple):
    """A part of an expression: one value a row, or one for all of them."""

    dtype: type[pl.DataType]
    values: Values | None
    constant: Constant | None = None


class _Unknown(Exception):
    """Not for series."""


def values_of(expression: pl.Expr, columns: pl.Schema) -> Values:
    """*expression*, which gives one value a row from that row alone, over frames with *columns*.

    Raises, when it is called, what polars raises.
    """

    def by_engine(frame: pl.DataFrame) -> pl.Series:
        values = frame.select(expression.alias("value"))["value"]
        constant = len(values) != frame.height
        return values.new_from_index(0, frame.height) if constant else values

    by_series = _by_series(expression, columns)
    if by_series is None:
        return by_engine
    return lambda frame: by_series(frame) if frame.height <= FEW else by_engine(frame)


def _by_series(expression: pl.Expr, columns: pl.Schema) -> Values | None:
    try:
        return _part(orjson.loads(expression.meta.serialize(format="json")), columns).values
    except (_Unknown, KeyError, TypeError, ValueError):  # of a tree that this polars writes otherwise
        return None


def _part(node: object, columns: pl.Schema) -> _Part:
    if not isinstance(node, dict) or len(node) != 1:
        raise _Unknown
    ((kind, inside),) = node.items()
    if kind == "Column":
        return _column(inside, type(columns[inside]))
    if kind == "Literal":
        return _literal(inside)
    if kind == "BinaryExpr":
        return _binary(inside["op"], _part(inside["left"], columns), _part(inside["right"], columns))
    if kind == "Cast" and inside["dtype"] == {"Literal": "Boolean"}:  # so SQL asks for a condition
        return _as_it_is(_part(inside["expr"], columns), pl.Boolean)
    if kind == "Function":
        (only,) = inside["input"]
        return _turned(_TURNED[inside["function"]["Boolean"]], _part(only, columns))
    if kind == "Ternary":
        return _chosen(*(_part(inside[part], columns) for part in ("predicate", "truthy", "falsy")))
    raise _Unknown


def _as_it_is(part: _Part, dtype: type[pl.DataType]) -> _Part:
    if part.dtype != dtype:
        raise _Unknown
    return part


def _column(name: str, dtype: type[pl.DataType]) -> _Part:
    if dtype not in _TYPES:
        raise _Unknown
    return _Part(dtype, lambda frame: frame.get_column(name))


def _literal(inside: Mapping[str, Mapping[str, Constant]]) -> _Part:
    (typed,) = inside.values()
    ((dtype, value),) = typed.items()
    if dtype == "Int" and type(value) is int and abs(value) <= _EXACT:
        return _Part(pl.Int64, None, value)
    if dtype in ("Float", "Float64") and type(value) is float:
        return _Part(pl.Float64, None, value)
    if dtype == "String" and type(value) is str:
        return _Part(pl.String, None, value)
    raise _Unknown


def _binary(op: str, left: _Part, right: _Part) -> _Part:
    if op in _JOINED:
        if left.dtype != pl.Boolean or right.dtype != pl.Boolean:
            raise _Unknown
        return _Part(pl.Boolean, _both(_JOINED[op], left.values, right.values))
    compare = _COMPARED[op]
    if left.values is None:  # polars turns the comparison around
        left, right, compare = right, left, lambda values, constant: _COMPARED[op](constant, values)
    constant, given = right.constant, left.values
    if isinstance(constant, int) and left.dtype == pl.Float64:
        constant = float(constant)
    elif left.dtype != right.dtype:
        raise _Unknown
    if right.values is None and given is not None:
        return _Part(pl.Boolean, lambda frame: compare(given(frame), constant))
    return _Part(pl.Boolean, _both(compare, given, right.values))


def _both(
    function: Callable[[pl.Series, pl.Series], pl.Series], left: Values | None, right: Values | None
) -> Values:
    if left is None or right is None:
        raise _Unknown
    return lambda frame: function(left(frame), right(frame))


def _turned(function: Callable[[pl.Series], pl.Series], given: _Part) -> _Part:
    values = given.values
    if values is None or (function is operator.invert and given.dtype != pl.Boolean):
        raise _Unknown
    return _Part(pl.Boolean, lambda frame: function(values(frame)))


def _chosen(predicate: _Part, truthy: _Part, falsy: _Part) -> _Part:
    """``case when``; of constants texts only: polars gives small types to numbers."""
    true, either, other = predicate.values, _series(truthy), _series(falsy)
    if true is None or predicate.dtype != pl.Boolean or truthy.dtype != falsy.dtype:
        raise _Unknown
    return _Part(truthy.dtype, lambda frame: either(frame).zip_with(true(frame), other(frame)))


def _series(part: _Part) -> Values:
    if part.values is not None:
        return part.values
    if part.dtype != pl.String:
        raise _Unknown
    one = pl.Series([part.constant], dtype=pl.String)
    return lambda frame: one
