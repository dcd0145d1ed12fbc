"""What sinks that write to a table of an SQL database say alike: their key, abilities and columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar

import polars as pl

from streamcore.contracts import SinkAbilities
from streamcore.errors import BadConfig, did_you_mean


def columns_of(key: str | Sequence[str] | None) -> tuple[str, ...]:
    """The columns of a sink's option ``key``."""
    return () if key is None else (key,) if isinstance(key, str) else tuple(key)


def abilities_of(key: tuple[str, ...]) -> SinkAbilities:
    """Without a key rows are appended, with one they are upserted and deleted by it."""
    keyed = bool(key)
    return SinkAbilities(
        not keyed, upsert=keyed, delete=keyed, transactional=True, stores_positions=True, key=key
    )


def check_key(key: tuple[str, ...], columns: pl.Schema) -> None:
    """BadConfig for columns of *key* that the stream does not have."""
    for name in key:
        if name not in columns:
            hint = did_you_mean(name, columns.names())
            raise BadConfig(f"key: unknown column {name!r}", allowed=columns.names(), fix=hint)


class FoundColumn(Protocol):
    """A column of the table. ``required``: it may not be null."""

    @property
    def required(self) -> bool: ...


ColumnT = TypeVar("ColumnT", bound=FoundColumn)


def met(
    found: Mapping[str, ColumnT], filled: Collection[str], columns: pl.Schema, where: str
) -> list[tuple[ColumnT, pl.DataType]]:
    """The table's column for each of the stream's *columns*, with its type there.

    *found* can be written; *filled* gets a value by itself. BadConfig for columns that the table lacks,
    and for those that it needs.
    """
    for name in columns.names():
        if name not in found:
            raise BadConfig(
                f"the table has no column {name!r}",
                where=where,
                allowed=found,
                fix=did_you_mean(name, found) or "add it, or drop it from the stream",
            )
    for name, column in found.items():
        if column.required and name not in filled and name not in columns:
            raise BadConfig(
                f"the table's column {name!r} may not be null and has no default",
                where=where,
                fix="add it to the stream or give it a default",
            )
    return [(found[name], dtype) for name, dtype in columns.items()]
