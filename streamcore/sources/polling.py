"""Polling: a table read for ever by a mark (``batch_adapters.polled_tables``), as an URI asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ConfigDict, Field

from batch_adapters.polled_tables import MARKED, PolledTable
from batch_adapters.table_options import TableOptions
from streamcore.contracts.unbounded import UnboundedSource
from streamcore.durations import DurationText, seconds


class PollOptions(TableOptions):
    """Options of tables that are polled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    poll: str = Field(description="The mark: a column that grows with each change of a row, e.g. updated_at.")
    every: DurationText = Field("1s", description="How often to look when nothing new was there.")
    settle: DurationText = Field(
        "2s", description="So long a row must have been seen before it is read: for commits out of order."
    )


def open_polled(system: str, uri: str, given: Mapping[str, object]) -> UnboundedSource:
    """The table of *system* (a key of ``MARKED``). BadConfig when there is no such table, key or column."""
    options = PollOptions.model_validate(given)
    connect = lambda: MARKED[system](uri, options.table_options, options.poll)  # noqa: E731
    return PolledTable.of(connect, "poll", options.poll, seconds(options.every), seconds(options.settle))
