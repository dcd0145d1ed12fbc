"""Polling: a table read for ever by a mark (``batch_adapters.polled_tables``), as an URI asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field

from batch_adapters.mongodb import MongoOptions
from batch_adapters.polled_tables import MARKED, PolledTable
from batch_adapters.table_options import TableOptions, apart
from streamcore.contracts.unbounded import UnboundedSource
from streamcore.durations import DurationText, seconds


class PollOptions(BaseModel):
    """Options of what is polled."""

    poll: str = Field(description="The mark: a column that grows with each change of a row, e.g. updated_at.")
    every: DurationText = Field("1s", description="How often to look when nothing new was there.")
    settle: DurationText = Field(
        "2s", description="So long a row must have been seen before it is read: for commits out of order."
    )


class PolledTableOptions(TableOptions, PollOptions):
    """Options of tables that are polled."""


class PolledCollectionOptions(MongoOptions, PollOptions):
    """Options of collections that are polled."""


def open_polled(system: str, uri: str, given: Mapping[str, object]) -> UnboundedSource:
    """The table of *system* (a key of ``MARKED``). BadConfig when there is no such table, key or column."""
    options, which = apart(PollOptions, given)
    connect = lambda: MARKED[system](uri, which, options.poll)  # noqa: E731
    return PolledTable.of(connect, "poll", options.poll, seconds(options.every), seconds(options.settle))
