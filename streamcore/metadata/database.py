"""What the store needs of a database: statements in a transaction, and rows.

SQL is what SQLite and PostgreSQL have alike, with parameters ``$1``, ``$2`` …
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

Value: TypeAlias = str | int | None
Row: TypeAlias = tuple[object, ...]


class Statement(NamedTuple):
    """One statement. ``touches``: how many rows it must touch, or the transaction is taken back."""

    sql: str
    values: tuple[Value, ...] = ()
    touches: int | None = None


class Bulk(NamedTuple):
    """One statement for each of ``rows``."""

    sql: str
    rows: Sequence[tuple[Value, ...]]


Work: TypeAlias = Sequence[Statement | Bulk]


class Rows(Protocol):
    """All rows of a query, asked for patiently."""

    def __call__(self, sql: str, *values: Value) -> Awaitable[Sequence[Row]]: ...


class Database(Protocol):
    """One database. Calls may overlap; errors are those of its system: Transient, Permanent, RefusedRows.

    ``serial`` is the type of a number that it counts up. ``alone`` is the first statement of a transaction
    that must not run beside another one like it.
    """

    serial: str
    alone: Sequence[Statement]

    async def transact(self, work: Work) -> bool:
        """Run *work* in a transaction; False, and nothing is changed, when a statement missed its rows."""

    async def rows(self, sql: str, *values: Value) -> Sequence[Row]:
        """All rows of a query."""

    async def close(self) -> None:
        """Free what is open."""
