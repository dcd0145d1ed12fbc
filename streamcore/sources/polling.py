"""Polling: a table read for ever by a mark, whatever the database (``batch_adapters.marks.MarkedTable``).

A bookmark is the mark and the key of the last row that was read. What changes again before it is read comes
once, as it is then; what is deleted is not noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from pydantic import ConfigDict, Field, field_validator

from batch_adapters.key_ranges import Key, KeyRange, Pages, check_unique
from batch_adapters.marks import MarkedTable, Settling
from batch_adapters.table_options import TableOptions
from streamcore.batch import PartitionId
from streamcore.contracts.unbounded import Polled, Taken, UnboundedAbilities
from streamcore.durations import duration

_NOWHERE = PartitionId("polled", 0, "polled")


class PollOptions(TableOptions):
    """Options of tables that are polled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    poll: str = Field(description="The mark: a column that grows with each change of a row, e.g. updated_at.")
    every: str = Field("1s", description="How often to look when nothing new was there.")
    settle: str = Field(
        "2s", description="So long a row must have been seen before it is read: for commits out of order."
    )

    @field_validator("every", "settle")
    @classmethod
    def _durations(cls, text: str) -> str:
        duration(text)
        return text

    @property
    def table_options(self) -> TableOptions:
        """Those of the table alone."""
        return TableOptions.model_validate({k: getattr(self, k) for k in TableOptions.model_fields})


def seconds(text: str) -> float:
    """A duration of an option in seconds."""
    return duration(text).total_seconds()


@dataclass(frozen=True)
class PolledTable:
    """A table as an unbounded source. *connect* opens it; it was opened once to learn *uri* and the rest."""

    connect: Callable[[], MarkedTable]
    uri: str
    about: str
    schema: pl.Schema
    interval: float
    settle: float
    abilities = UnboundedAbilities(updates=True)

    @classmethod
    def of(cls, connect: Callable[[], MarkedTable], options: PollOptions) -> PolledTable:
        """Check the table by opening it. BadConfig when there is no such table, key or column."""
        table = connect()
        try:
            about = f"{table.identity()}\0{options.poll}"
            uri, columns = f"{table.uri}&poll={options.poll}", table.columns()
        finally:
            table.close()
        return cls(connect, uri, about, columns, seconds(options.every), seconds(options.settle))

    def identity(self) -> str:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return self.about

    def columns(self) -> pl.Schema | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        return self.schema

    def open(self, bookmark: bytes) -> PolledReader:
        """See :class:`streamcore.contracts.unbounded.UnboundedSource`."""
        behind = KeyRange.unpack(bookmark).behind if bookmark else None
        return PolledReader(self.connect(), behind, Settling(self.settle))


class PolledReader:
    """Reads *table* behind a key, as far as *settling* says."""

    def __init__(self, table: MarkedTable, behind: Key | None, settling: Settling) -> None:
        self._table, self._behind, self._settling = table, behind, settling
        self._pages: Pages | None = None

    def poll(self, max_bytes: int, now: float) -> Polled | None:
        """See :class:`streamcore.contracts.unbounded.UnboundedReader`. The clock is the database's."""
        if self._pages is None:
            until = self._settling.see(self._table.look())
            if until is None or until == self._behind:
                return None
            self._pages = self._table.read(KeyRange(self._behind, until), max_bytes)
        page = next(self._pages, None)
        if page is None:
            self._pages = None
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
