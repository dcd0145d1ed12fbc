"""What sinks that write to a table, or to a collection, say alike: their key, abilities and columns."""

from __future__ import annotations

import abc
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, TypeVar

import polars as pl

from streamcore.contracts import SinkAbilities
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.sinks.fence import POSITIONS
from streamcore.sinks.merging import Merge, OnConflict
from streamcore.sinks.merging import check_column as check_column


class Keyed(abc.ABC):
    """A sink that updates by the columns ``keys``, if it has some."""

    @property
    @abc.abstractmethod
    def keys(self) -> tuple[str, ...]:
        """The columns by which a row is found again; none: rows are appended."""

    @property
    def abilities(self) -> SinkAbilities:
        """Without a key rows are appended, with one they are upserted and deleted by it."""
        keys = self.keys
        keyed = bool(keys)
        return SinkAbilities(
            not keyed,
            upsert=keyed,
            delete=keyed,
            transactional=True,
            stores_positions=True,
            key=keys,
            server_refuses=True,
        )

    def check_key(self, columns: pl.Schema) -> None:
        """BadConfig for columns of the key that the stream does not have."""
        for name in self.keys:
            check_column(name, columns, "key")


class KeyOption(Keyed):
    """A sink with the options of a :class:`Merge`: a column, several, or None where it says so."""

    key: str | Sequence[str] | None
    on_conflict: OnConflict
    update: str | Sequence[str] | None
    version: str | None

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of ``key``."""
        return _names(self.key)

    @property
    def abilities(self) -> SinkAbilities:
        """As :attr:`Keyed.abilities`; what leaves rows as they are does not upsert."""
        found = super().abilities
        return found if self.on_conflict == "update" else replace(found, upsert=False)

    @property
    def merge(self) -> Merge:
        """How rows meet those that are there."""
        update = None if self.update is None else _names(self.update)
        return Merge(self.keys, self.on_conflict, update, self.version)

    def check_key(self, columns: pl.Schema) -> None:
        """BadConfig for columns that the stream does not have, and for options that mean nothing together."""
        self.merge.check(columns)


def _names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


@dataclass(frozen=True)
class ServerTable(KeyOption, abc.ABC):
    """``table`` in ``schema`` of the database at ``url``, of a server whose kind is ``system``.

    Every sink says itself what its default of ``url`` is.
    """

    system: ClassVar[str]

    table: str
    url: str = field(default="", repr=False)
    key: str | Sequence[str] | None = None
    create: bool = False
    schema: str | None = None
    name: str = ""
    on_conflict: OnConflict = "update"
    update: str | Sequence[str] | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        self.check_name(self.table, "the table's name")
        if self.schema is not None:
            self.check_name(self.schema, "the schema's name")
        full = f"{self.schema}.{self.table}" if self.schema else self.table
        object.__setattr__(self, "name", self.name or f"{self.system}:{full}")

    @property
    def target(self) -> str:
        """The table's name, quoted."""
        return self._in_schema(self.table)

    @property
    def positions(self) -> str:
        """The quoted name of the table of positions, beside it."""
        return self._in_schema(POSITIONS)

    def _in_schema(self, name: str) -> str:
        return self.quoted(self.schema, name) if self.schema else self.quoted(name)

    @staticmethod
    @abc.abstractmethod
    def quoted(*names: str) -> str:
        """*names* quoted by the server's rule, joined by dots."""

    @staticmethod
    @abc.abstractmethod
    def check_name(name: str, what: str) -> None:
        """BadConfig for a *name* that the server would refuse; *what* it is the name of."""

    @abc.abstractmethod
    def plan(self, columns: pl.Schema) -> list[str]:
        """The statements that prepare the target, for a dry run."""


def not_made(error: Permanent, statement: str, where: str) -> Permanent:
    """What to raise where the server refused *statement*, which makes a table."""
    fix = f"run it as its owner: {statement}"
    return Permanent(f"can't make the table: {error.what}", where=where, fix=fix)


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
