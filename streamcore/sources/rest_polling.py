"""Polling: a REST collection read for ever by a mark (``batch_adapters.polled_collections``), as an URI asks
for it: ``https://api.example.com/users?poll=updated_at&since_param=since``.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from batch_adapters.polled_collections import PolledCollection
from batch_adapters.rest_marks import LagText
from batch_adapters.rest_options import RestOptions
from streamcore.durations import DurationText, seconds


class RestPollOptions(RestOptions):
    """Options of REST collections that are polled."""

    poll: str = Field(description="The mark: a member of each row that grows with each change: updated_at.")
    every: DurationText = Field("30s", description="How often to ask when nothing new was there.")
    lag: LagText | None = Field(
        None, description="It is asked from so far behind the highest mark: of times 1m, of numbers 0."
    )


def open_rest_polling(uri: str, given: Mapping[str, object]) -> PolledCollection:
    """The source that *uri* and the options *given* say; BadConfig when they can't be meant."""
    options = RestPollOptions.model_validate(given)
    return PolledCollection.of(uri, options, options.poll, options.lag, seconds(options.every))
