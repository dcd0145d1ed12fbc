"""``Redis``: rows that are hashes, looked up by a key that is made of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from streamcore.asking import Caching
from streamcore.errors import BadConfig, Permanent
from streamcore.references.declared import Span, caching_of, columns_of, key_of
from streamcore.schema.cast import cast_column
from streamcore.secrets import resolve
from streamcore.systems.redis import Client
from streamcore.systems.redis_keys import columns_in


@dataclass(frozen=True)
class Redis:
    """The hash at the key ``pattern``, e.g. ``"user:{id}"``, of each row; its fields are the other *columns*.

    ``url`` may hold references such as ``${env:REDIS_URL}``, the default; ``streamcore.systems.redis`` says
    how TLS is asked for. What is in braces are the key's columns, whole numbers or strings. Fields are text
    in the canonical spelling of their types; one that is missing is null, and a hash without any of them is
    no row. For the cache see :class:`~streamcore.references.postgres.Postgres`.
    """

    pattern: str
    columns: Mapping[str, str]
    url: str = field(default="${env:REDIS_URL}", repr=False)
    cache_rows: int = 100_000
    cache_for: Span = "1m"
    cache_misses_for: Span | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or f"redis:{self.pattern}")
        _ = self.caching  # says now what is wrong
        if not self.fields:
            raise BadConfig(
                "a hash needs fields", got=self.pattern, fix='columns={"id": "int64", "name": "string"}'
            )

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns in the braces of *pattern*."""
        return key_of(columns_in(self.pattern), self.types)

    @property
    def types(self) -> pl.Schema:
        """The columns with their types."""
        return columns_of(self.columns)

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that are fields of the hash."""
        return tuple(name for name in self.types if name not in self.keys)

    @property
    def caching(self) -> Caching:
        return caching_of(self.cache_rows, self.cache_for, self.cache_misses_for)

    def reader(self, clock: Callable[[], float]) -> RedisReader:
        return RedisReader(self)


class RedisReader:
    """The live part of :class:`Redis`."""

    def __init__(self, reference: Redis) -> None:
        self._reference = reference
        self._client: Client | None = None

    async def start(self) -> None:
        """Ask whether the server answers."""
        await self._connected().ping()

    async def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """The commands of all *keys* go together."""
        pattern = self._reference.pattern
        names = [pattern.format_map(key) for key in keys.iter_rows(named=True)]
        found = await self._connected().hashes(names, self._reference.fields)
        there = [place for place, values in enumerate(found) if any(value is not None for value in values)]
        rows = keys[there]
        for number, name in enumerate(self._reference.fields):
            values = pl.Series(name, [found[place][number] for place in there], pl.Binary)
            rows = rows.with_columns(self._cast(values).alias(name))
        return rows.select(*self._reference.types)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _connected(self) -> Client:
        if self._client is None:
            self._client = Client(resolve(self._reference.url))
        return self._client

    def _cast(self, values: pl.Series) -> pl.Series:
        """*values*, UTF-8, in the type declared. Permanent for one that does not fit; it is not shown."""
        dtype = self._reference.types[values.name]
        try:
            cast, unsure = cast_column(values.cast(pl.String), dtype)
        except pl.exceptions.PolarsError:
            cast, unsure = values, values.is_not_null()
        if unsure is not None and unsure.any():
            raise Permanent(
                "the reference's values are not of the types declared",
                where=self._reference.name,
                got=f"{values.name} {dtype}",
                fix="declare the field as a string",
            )
        return cast
