"""What columns a sample of rows has: of texts the narrowest type that all are, of documents their fields."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import polars as pl

from streamcore.schema.cast import cast_column
from streamcore.schema.types import type_named

_NARROW = tuple(map(type_named, ("int64", "float64", "bool", "date", "datetime", "time")))


_ZEROS = r"^-?0[0-9]+(?:\.[0-9]*)?$"
"""Digits behind a zero are a code of some kind, which a number would cut short."""


def narrowed(frame: pl.DataFrame) -> pl.Schema:
    """The columns of *frame*, those of texts as the first of int64, float64, bool, date, datetime and time
    that each of their texts is in its usual spelling. A column without a value stays text."""
    return pl.Schema({name: _narrowed(frame[name]) for name in frame.columns})


def _narrowed(values: pl.Series) -> pl.DataType:
    if values.dtype == pl.Null:
        return pl.String()
    if values.dtype != pl.String:
        return values.dtype
    there = values.drop_nulls()
    there = there.filter(there != "")
    if not len(there) or there.str.contains(_ZEROS).any():
        return values.dtype
    for dtype in _NARROW:
        _, unsure = cast_column(there, dtype)
        if unsure is None or not unsure.any():
            return dtype
    return values.dtype


def of_documents(values: Sequence[bytes | None]) -> tuple[pl.DataFrame, int]:
    """JSON objects as columns, whose types hold all of *values*, and how many of those are no objects.

    Slow: for samples.
    """
    lines = [line for line in map(_line, values) if line is not None]
    if not lines:
        return pl.DataFrame(), len(values)
    return pl.read_ndjson(b"\n".join(lines), infer_schema_length=None), len(values) - len(lines)


def _line(value: bytes | None) -> bytes | None:
    """An object on one line."""
    try:
        document = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return orjson.dumps(document) if isinstance(document, dict) and document else None
