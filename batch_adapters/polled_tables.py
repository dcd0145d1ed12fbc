"""Tables that are read by a mark (:class:`batch_adapters.marks.MarkedTable`), whatever the database: for
ever, or in runs, each of which reads what came since the last one.

A bookmark is the mark and the key of the last row that was read. What changes again before it is read comes
once, as it is then; what is deleted is not noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from batch_adapters.key_ranges import Key, KeyRange, Pages, TableSource, check_unique
from batch_adapters.marks import MarkedTable, Settling
from batch_adapters.mongodb import MongoOptions
from batch_adapters.mongodb_marks import MongoMarks
from batch_adapters.mysql_marks import MysqlMarks
from batch_adapters.postgres_marks import PostgresMarks
from batch_adapters.sqlite import SqliteTable, sqlite_path
from batch_adapters.table_options import MarkOptions, apart, table_of
from streamcore.batch import PartitionId
from streamcore.contracts import BoundedSource
from streamcore.contracts.unbounded import Polled, Taken, UnboundedAbilities
from streamcore.durations import seconds

_NOWHERE = PartitionId("polled", 0, "polled")

Given: TypeAlias = "Mapping[str, object]"
"""Options that say which table is meant."""
MARKED: Mapping[str, Callable[[str, Given, str], MarkedTable]] = {
    "postgresql": lambda uri, given, mark: PostgresMarks(uri, table_of(given), mark),
    "mysql": lambda uri, given, mark: MysqlMarks(uri, table_of(given), mark),
    "sqlite": lambda uri, given, mark: SqliteTable(sqlite_path(uri), table_of(given), mark),
    "mongodb": lambda uri, given, mark: MongoMarks(uri, MongoOptions.model_validate(given), mark),
}
"""How a system's table is opened in the order of a mark: by its URI, the table and the mark's column."""


@dataclass(frozen=True)
class PolledTable:
    """A table as an unbounded source. *connect* opens it; it was opened once to learn *uri* and the rest.

    Times are in seconds.
    """

    connect: Callable[[], MarkedTable]
    uri: str
    about: str
    schema: pl.Schema | None
    interval: float
    settle: float
    abilities = UnboundedAbilities(updates=True)
    waits_for = (
        "the end of transactions that were open when this run began: "
        "what they commit could belong before the rows that are there"
    )

    @classmethod
    def of(
        cls, connect: Callable[[], MarkedTable], option: str, mark: str, interval: float, settle: float
    ) -> PolledTable:
        """Check the table by opening it; *option* names the *mark* in its URI.

        BadConfig when there is no such table, key or column.
        """
        table = connect()
        try:
            about = f"{table.identity()}\0{mark}"
            uri, columns = f"{table.uri}&{option}={mark}", table.columns()
        finally:
            table.close()
        return cls(connect, uri, about, columns, interval, settle)

    def identity(self) -> str:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return self.about

    def columns(self) -> pl.Schema | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return self.schema

    def open(self, bookmark: bytes) -> PolledReader:
        """See :class:`streamcore.contracts.unbounded.CatchingUpSource`."""
        behind = KeyRange.unpack(bookmark).behind if bookmark else None
        return PolledReader(self.connect(), behind, Settling(self.settle))


class PolledReader:
    """Reads *table* behind a key, as far as *settling* says.

    ``caught_up``: see :class:`streamcore.contracts.unbounded.CatchingUpReader`.
    """

    def __init__(self, table: MarkedTable, behind: Key | None, settling: Settling) -> None:
        self._table, self._behind, self._settling = table, behind, settling
        self._pages: Pages | None = None
        self.caught_up = False

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`. The clock is the database's."""
        if self._pages is None:
            look = self._table.look()
            until = self._settling.see(look)
            if until is None or until == self._behind:
                self.caught_up = self.caught_up or until is not None or look.top in (None, self._behind)
                return None
            self._pages = self._table.read(KeyRange(self._behind, until), max_bytes)
        page = next(self._pages, None)
        if page is None:
            # What is settled is the highest key of the first look, or above it.
            self._pages, self.caught_up = None, True
            return None
        check_unique(page, self._behind, self._table.uri)
        self._behind = page.last_key()
        return Polled(KeyRange(self._behind).pack(), (Taken(page.chunk(_NOWHERE, 0)),))

    def forget(self, bookmark: bytes) -> None:
        """A table keeps its rows."""

    def close(self) -> None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`."""
        if self._pages is not None:
            self._pages.close()
        self._table.close()


@dataclass(frozen=True, slots=True)
class IncrementalTable(TableSource):
    """*table*, to look into, and how it is read by its changes."""

    polled: PolledTable

    @property
    def uri(self) -> str:
        return self.polled.uri

    def taken_in(self) -> PolledTable:
        """See :class:`streamcore.contracts.unbounded.Incremental`."""
        return self.polled


def opened(
    system: str,
    whole: Callable[[str, Given], TableSource],
    uri: str,
    given: Given,
) -> BoundedSource:
    """The table of *system* that *uri* and the options *given* name: all of it, as *whole* opens it, or with
    ``mark`` in runs. BadConfig when there is no such table, key or column."""
    options, which = apart(MarkOptions, given)
    table, mark = whole(uri, which), options.mark
    if mark is None:
        return table
    connect = lambda: MARKED[system](uri, which, mark)  # noqa: E731
    settle = seconds(options.settle)
    return IncrementalTable(table.table, PolledTable.of(connect, "mark", mark, min(settle, 1.0), settle))
