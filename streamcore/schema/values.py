"""From the values of a pydantic instance to the values of columns."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

import polars as pl
from polars._typing import PolarsDataType
from pydantic import BaseModel

from streamcore.schema.types import instance_of, int_bounds

ColumnValue: TypeAlias = Callable[[Any], Any]


def column_value(dtype: pl.DataType, members: bool) -> ColumnValue | None:
    """The conversion to *dtype* (None: not needed); *members*: values may be members of an Enum.

    It raises OverflowError or ValueError for what has no place in the column.
    """
    convert = _conversion(dtype, members)
    return None if convert is None else lambda value: None if value is None else convert(value)


def _conversion(dtype: pl.DataType, members: bool) -> ColumnValue | None:
    bounds = int_bounds(dtype)
    if bounds is not None:
        return lambda value: _fit_int(_plain(value) if members else value, *bounds)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return _in_utc
    if isinstance(dtype, pl.Decimal):
        return lambda value: _fit_decimal(value, dtype.precision or 38, dtype.scale)
    if isinstance(dtype, pl.List):
        inner = _within(dtype.inner)
        return lambda value: [inner(item) for item in value]
    if isinstance(dtype, pl.Struct):
        inners = [(f.name, _within(f.dtype)) for f in dtype.fields]
        return lambda value: _fields(value, inners)
    return _plain if members else None


def _within(dtype: PolarsDataType) -> ColumnValue:
    """The conversion of values within lists and models, which may be members of an Enum."""
    return column_value(instance_of(dtype), members=True) or _plain


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _fields(value: BaseModel, inners: list[tuple[str, ColumnValue]]) -> dict[str, Any]:
    # In the model's order: the model of a struct without an event has attributes c0, c1, ...
    attributes = type(value).model_fields
    return {name: inner(getattr(value, at)) for (name, inner), at in zip(inners, attributes, strict=True)}


def _fit_int(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise OverflowError
    return value


def _in_utc(value: dt.datetime) -> dt.datetime:
    return (
        value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value.astimezone(dt.timezone.utc)
    )


def _fit_decimal(value: Decimal, precision: int, scale: int) -> Decimal:
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise OverflowError  # not a number, or infinite
    while exponent < -scale and digits and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    if digits and (exponent < -scale or len(digits) + exponent > precision - scale):
        raise OverflowError
    return value
