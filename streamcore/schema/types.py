"""Names of column types as users write them, and the Python types that the judging model uses for them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from types import GenericAlias
from typing import Annotated, Any

import polars as pl
from polars._typing import PolarsDataType
from pydantic import ConfigDict, Field, NaiveDatetime, create_model

from streamcore.errors import BadConfig, did_you_mean

DATETIME = pl.Datetime("us", "UTC")
DECIMAL_SCALE = 9
"""Decimal places of a column whose field names none."""

_NAMED: Mapping[str, pl.DataType] = {
    "int8": pl.Int8(),
    "int16": pl.Int16(),
    "int32": pl.Int32(),
    "int64": pl.Int64(),
    "uint8": pl.UInt8(),
    "uint16": pl.UInt16(),
    "uint32": pl.UInt32(),
    "uint64": pl.UInt64(),
    "float32": pl.Float32(),
    "float64": pl.Float64(),
    "string": pl.String(),
    "bool": pl.Boolean(),
    "binary": pl.Binary(),
    "date": pl.Date(),
    "time": pl.Time(),
    "datetime": DATETIME,
    "naive_datetime": pl.Datetime("us"),
    "decimal": pl.Decimal(38, DECIMAL_SCALE),
}
_SYNONYMS = {
    "int": "int64",
    "integer": "int64",
    "float": "float64",
    "double": "float64",
    "str": "string",
    "boolean": "bool",
    "bytes": "binary",
    "timestamp": "datetime",
}
TYPE_NAMES = (*_NAMED, *_SYNONYMS)


def type_named(name: str) -> pl.DataType:
    """The column type called *name*, e.g. "int64"; BadConfig with the known names otherwise.

    ``datetime`` is in UTC with microseconds, ``naive_datetime`` has no zone, ``decimal`` has 9 places.
    """
    key = name.strip().lower()
    key = _SYNONYMS.get(key, key)
    if key not in _NAMED:
        raise BadConfig("unknown column type", got=name, allowed=_NAMED, fix=did_you_mean(key, TYPE_NAMES))
    return _NAMED[key]


_INT_BITS: Mapping[type[pl.DataType], tuple[int, int]] = {
    pl.Int8: (-(1 << 7), (1 << 7) - 1),
    pl.Int16: (-(1 << 15), (1 << 15) - 1),
    pl.Int32: (-(1 << 31), (1 << 31) - 1),
    pl.Int64: (-(1 << 63), (1 << 63) - 1),
    pl.UInt8: (0, (1 << 8) - 1),
    pl.UInt16: (0, (1 << 16) - 1),
    pl.UInt32: (0, (1 << 32) - 1),
    pl.UInt64: (0, (1 << 64) - 1),
}
_PLAIN: Mapping[type[pl.DataType], type] = {
    pl.Float32: float,
    pl.Float64: float,
    pl.String: str,
    pl.Boolean: bool,
    pl.Binary: bytes,
    pl.Date: dt.date,
    pl.Time: dt.time,
}


def int_bounds(dtype: pl.DataType) -> tuple[int, int] | None:
    """Smallest and largest value of an integer type, None for other types."""
    return _INT_BITS.get(type(dtype))


def annotation_of(dtype: pl.DataType) -> Any:
    """What pydantic must check for a value of *dtype*; ``Any`` for types that only frames can carry."""
    kind = type(dtype)
    if (bounds := int_bounds(dtype)) is not None:
        # 64 bits are what the column holds anyway; only narrower types need a check of their own.
        return int if kind is pl.Int64 else Annotated[int, Field(ge=bounds[0], le=bounds[1])]
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(dtype, pl.Datetime):
        return NaiveDatetime if dtype.time_zone is None else dt.datetime
    if isinstance(dtype, pl.Decimal):
        return Annotated[Decimal, Field(max_digits=dtype.precision, decimal_places=dtype.scale)]
    if isinstance(dtype, pl.List):
        return GenericAlias(list, (annotation_of(instance_of(dtype.inner)) | None,))
    if isinstance(dtype, pl.Struct):
        return row_model({f.name: instance_of(f.dtype) for f in dtype.fields}, frozenset())
    return Any


def row_model(columns: Mapping[str, pl.DataType], required: frozenset[str]) -> Any:
    """A strict pydantic model with one field ``c0, c1, …`` a column, each read under the column's name."""
    fields: dict[str, Any] = {}
    for i, (name, dtype) in enumerate(columns.items()):
        kind = annotation_of(dtype)
        if name in required:
            fields[f"c{i}"] = (kind, Field(alias=name))
        else:
            fields[f"c{i}"] = (kind | None if kind is not Any else Any, Field(None, alias=name))
    config = ConfigDict(strict=True, val_json_bytes="base64", arbitrary_types_allowed=True)
    return create_model("Row", __config__=config, **fields)


def instance_of(dtype: PolarsDataType) -> pl.DataType:
    """An inner type, which polars hands out as a class or as an instance."""
    return dtype() if isinstance(dtype, type) else dtype


def name_of(dtype: pl.DataType) -> str:
    """What users write for *dtype*: its name, or what makes one that has none, e.g. ``pl.List(pl.Int64)``."""
    names = [name for name, named in _NAMED.items() if named == dtype]
    return names[0] if names else _made_by(dtype)


def _made_by(dtype: PolarsDataType) -> str:
    """The Python expression for *dtype*."""
    if isinstance(dtype, pl.List):
        return f"pl.List({_made_by(dtype.inner)})"
    if isinstance(dtype, pl.Struct):
        return f"pl.Struct({{{', '.join(f'{f.name!r}: {_made_by(f.dtype)}' for f in dtype.fields)}}})"
    if isinstance(dtype, pl.Decimal):
        return f"pl.Decimal({dtype.precision}, {dtype.scale})"
    if isinstance(dtype, pl.Datetime):
        return f"pl.Datetime({dtype.time_unit!r}, {dtype.time_zone!r})"
    return f"pl.{dtype}"
