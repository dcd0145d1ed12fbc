"""``Postgres``: rows of a table or view of PostgreSQL, looked up by key, one question a batch.

The keys of a batch that are not remembered go in one statement, as arrays, so a lookup costs a round trip a
batch at most. The key should have an index there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from streamcore.asking import Caching
from streamcore.errors import Permanent, Transient
from streamcore.references.declared import Span, caching_of, checked, columns_of, key_of
from streamcore.secrets import resolve
from streamcore.systems.postgres import Session, address, check_identifier, connect, identifier
from streamcore.systems.sql import RefusedRows


@dataclass(frozen=True)
class Postgres:
    """The *columns* (``{name: type}``) of ``table`` in ``schema`` of the database at ``url``, by *key*.

    ``url`` may hold references such as ``${env:DATABASE_URL}``, the default; see
    ``streamcore.systems.postgres`` for TLS. *key*: whole numbers or strings, and each has one row at most.
    A row is remembered *cache_for*, that a key has none *cache_misses_for* (the same unless given), of
    *cache_rows* keys at most.
    """

    table: str
    key: str | tuple[str, ...]
    columns: Mapping[str, str]
    url: str = field(default="${env:DATABASE_URL}", repr=False)
    schema: str | None = None
    cache_rows: int = 100_000
    cache_for: Span = "1m"
    cache_misses_for: Span | None = None
    name: str = ""

    def __post_init__(self) -> None:
        check_identifier(self.table, "the table's name")
        if self.schema is not None:
            check_identifier(self.schema, "the schema's name")
        for column in self.types:
            check_identifier(column, "the column's name")
        full = f"{self.schema}.{self.table}" if self.schema else self.table
        object.__setattr__(self, "name", self.name or f"postgres:{full}")
        _ = self.keys, self.caching  # says now what is wrong

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of *key*."""
        return key_of(self.key, self.types)

    @property
    def types(self) -> pl.Schema:
        """The columns with their types."""
        return columns_of(self.columns)

    @property
    def caching(self) -> Caching:
        return caching_of(self.cache_rows, self.cache_for, self.cache_misses_for)

    @property
    def statement(self) -> str:
        """The question; its values are an array for each column of the key."""
        table = identifier(*([self.schema] if self.schema else []), self.table)
        names = ", ".join(f"t.{identifier(name)}" for name in self.columns)
        types = ["text" if self.types[name] == pl.String else "bigint" for name in self.keys]
        arrays = ", ".join(f"${i}::{dtype}[]" for i, dtype in enumerate(types, start=1))
        wanted = ", ".join(f"k{i}" for i in range(len(types)))
        equal = " and ".join(f"t.{identifier(name)} = w.k{i}" for i, name in enumerate(self.keys))
        return f"select {names} from {table} t join unnest({arrays}) as w({wanted}) on {equal}"

    def reader(self, clock: Callable[[], float]) -> PostgresReader:
        return PostgresReader(self)


class PostgresReader:
    """The live part of :class:`Postgres`: one connection, one question at a time."""

    def __init__(self, reference: Postgres) -> None:
        self._reference = reference
        self._session: Session | None = None
        self._one = asyncio.Lock()

    async def start(self) -> None:
        """Connect, and ask for no key: that says what is missing there."""
        await self.rows(
            pl.DataFrame(schema={name: self._reference.types[name] for name in self._reference.keys})
        )

    async def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """One statement for all *keys*. Another connection after one that failed."""
        reference = self._reference
        async with self._one:
            try:
                if self._session is None:
                    where = address(resolve(reference.url))
                    self._session = await connect(where, f"streamcore lookup {reference.name}"[:63])
                arrays = [keys[name].to_list() for name in reference.keys]
                found = await self._session.rows(reference.statement, *arrays)
            except RefusedRows as error:
                raise Permanent(f"the keys can't be asked for: {error.what}", where=error.where) from None
            except Transient:
                await self._drop()
                raise
        return checked(self._frame(found), reference.keys, reference.name)

    async def close(self) -> None:
        await self._drop()

    async def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.abort()

    def _frame(self, found: list[tuple[object, ...]]) -> pl.DataFrame:
        types = self._reference.types
        values = zip(*found, strict=True) if found else ([] for _ in types)
        try:
            return pl.DataFrame(
                [
                    pl.Series(name, list(column), dtype, strict=True)
                    for (name, dtype), column in zip(types.items(), values, strict=True)
                ]
            )
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            raise Permanent(
                "the reference's values are not of the types declared",
                where=self._reference.name,
                got=", ".join(f"{name} {dtype}" for name, dtype in types.items()),
                fix="declare them as they are there, or cast them in a view",
            ) from None
