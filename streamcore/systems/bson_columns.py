"""Values of BSON as columns, where their JSON as a column of that type says the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.systems.bson_elements import (
    ABSENT,
    BINARY,
    BOOL,
    DATE,
    DOUBLE,
    INT,
    LONG,
    NULL,
    OBJECT_ID,
    TEXT,
    UNDEFINED,
    Bools,
    BsonBytes,
    Field,
    Int64s,
)

Made: TypeAlias = "tuple[pl.Series, Bools]"
"""The values, and which of them are in doubt: those are null."""
_YEARS = (-62_135_596_800_000, 253_402_300_799_999)
"""Milliseconds since 1970 of the years 1 to 9999."""
_NOTHING = (ABSENT, NULL, UNDEFINED)
_HEX = np.array([int.from_bytes(f"{byte:02x}".encode(), "little") for byte in range(256)], np.uint16)
_PLAIN_BINARY = 0


def column_of(source: BsonBytes, field: Field, sure: Bools, dtype: pl.DataType) -> Made | None:
    """The *field* of documents as a column of *dtype*; None where this can't be said of such columns.

    In doubt are the documents that are not *sure*, and those whose value is of a type that may need to be
    converted. A document without the field, or with a null, has a null.
    """
    makers = _makers(dtype)
    if makers is None:
        return None
    types = np.where(sure, field.types, NULL)
    kinds = np.flatnonzero(np.bincount(types, minlength=1)).tolist()
    if len(kinds) == 1 and kinds[0] in makers and sure.all():
        values, bad = makers[kinds[0]](source, field.at)
        return values.cast(dtype), bad
    doubt, parts, place = ~sure, [pl.Series([None], dtype=dtype)], np.zeros(len(types), np.int64)
    for kind in kinds:
        of = np.flatnonzero(types == kind)
        if kind in makers:
            values, doubt[of] = makers[kind](source, field.at[of])
            place[of] = sum(map(len, parts)) + np.arange(len(of))
            parts.append(values.cast(dtype))
        elif kind not in _NOTHING:
            doubt[of] = True
    return pl.concat(parts)[place], doubt


def _makers(dtype: pl.DataType) -> Mapping[int, Maker] | None:
    """How a column of *dtype* is made, by the type of the values."""
    if isinstance(dtype, pl.Datetime):
        # A column without a zone takes no time with one.
        return _TIMES if dtype.time_zone and dtype.time_unit != "ns" else None
    return _MAKERS.get(type(dtype))


Maker: TypeAlias = "Callable[[BsonBytes, Int64s], Made]"


def _number(kind: str) -> Maker:
    def made(source: BsonBytes, at: Int64s) -> Made:
        return pl.Series(source.numbers(kind, at)), np.zeros(len(at), np.bool_)

    return made


def _unsigned(kind: str) -> Maker:
    def made(source: BsonBytes, at: Int64s) -> Made:
        numbers = source.numbers(kind, at)
        return pl.Series(np.maximum(numbers, 0)), numbers < 0

    return made


def _bool(source: BsonBytes, at: Int64s) -> Made:
    return pl.Series(source.bytes[at].astype(np.bool_)), np.zeros(len(at), np.bool_)


def _time(source: BsonBytes, at: Int64s) -> Made:
    milliseconds = source.numbers("<i8", at)
    beyond = (milliseconds < _YEARS[0]) | (milliseconds > _YEARS[1])
    return pl.Series(np.where(beyond, 0, milliseconds)).cast(pl.Datetime("ms", "UTC")), beyond


def _text(source: BsonBytes, at: Int64s) -> Made:
    texts = source.texts(at + 4, source.lengths(at) - 1).cast(pa.large_string())
    return pl.Series(texts), np.zeros(len(at), np.bool_)


def _object_id(source: BsonBytes, at: Int64s) -> Made:
    digits = _HEX[source.bytes[at[:, None] + np.arange(12)]]
    ends = np.arange(len(at) + 1, dtype=np.int64) * 24
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(digits))]
    texts = pa.Array.from_buffers(pa.large_string(), len(at), buffers)
    return pl.Series(texts), np.zeros(len(at), np.bool_)


def _bytes(source: BsonBytes, at: Int64s) -> Made:
    other = source.bytes[at + 4] != _PLAIN_BINARY
    pieces = source.texts(at + 5, np.where(other, 0, source.lengths(at))).cast(pa.large_binary())
    return pl.Series(pieces), other


_MAKERS: Mapping[type[pl.DataType], Mapping[int, Maker]] = {
    pl.Int64: {INT: _number("<i4"), LONG: _number("<i8")},
    pl.UInt64: {INT: _unsigned("<i4"), LONG: _unsigned("<i8")},
    pl.Float64: {DOUBLE: _number("<f8"), INT: _number("<i4"), LONG: _number("<i8")},
    pl.Boolean: {BOOL: _bool},
    pl.String: {TEXT: _text, OBJECT_ID: _object_id},
    pl.Binary: {BINARY: _bytes},
}
_TIMES: Mapping[int, Maker] = {DATE: _time}
