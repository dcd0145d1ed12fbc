"""What the references of servers have in common: the key, the columns' types and what is remembered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import polars as pl

from streamcore.asking import Caching
from streamcore.durations import duration
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.schema import type_named

Span = str | dt.timedelta


def columns_of(columns: Mapping[str, str]) -> pl.Schema:
    """``{column: type name}`` as a schema."""
    if not columns:
        raise BadConfig("a reference needs its columns", fix='columns={"id": "int64", "name": "string"}')
    return pl.Schema({name: type_named(text) for name, text in columns.items()})


def key_of(key: str | tuple[str, ...], columns: pl.Schema) -> tuple[str, ...]:
    """The key's columns, at least one of *columns*; BadConfig for others, and for types that can't be one."""
    names = (key,) if isinstance(key, str) else tuple(key)
    if not names:
        raise BadConfig("a reference needs a key", fix='key="id"')
    for name in names:
        if name not in columns:
            hint = did_you_mean(name, columns.names())
            raise BadConfig(f"key: unknown column {name!r}", allowed=columns.names(), fix=hint)
        if not (columns[name].is_integer() or columns[name] == pl.String):
            raise BadConfig(
                f"{name!r} can't be the key of a reference",
                got=str(columns[name]),
                allowed=["whole numbers", "string"],
                fix="declare the key as a string, and cast_type() the stream's",
            )
    return names


def caching_of(rows: int, remember: Span, misses: Span | None) -> Caching:
    """The caching that users write as a number of rows and spans of time."""
    if rows < 1:
        raise BadConfig("cache_rows is at least 1", got=rows, fix='cache_for="0s" remembers nothing')
    kept = duration(remember).total_seconds()
    return Caching(rows, kept, kept if misses is None else duration(misses).total_seconds())


def checked(rows: pl.DataFrame, key: tuple[str, ...], name: str) -> pl.DataFrame:
    """*rows*, when each key has one. Permanent otherwise; the values are not shown."""
    if rows.select(pl.struct(*key).is_duplicated().any()).item():
        raise Permanent(
            "a reference has several rows of a key",
            where=name,
            got=", ".join(key),
            fix="make the key unique there",
        )
    return rows
