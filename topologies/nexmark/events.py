"""The stream that all Nexmark queries read: JSON documents of three kinds, mixed, in one topic.

``event`` names the kind; :data:`KINDS` says which of the other fields a document of that kind has,
in its order. Ids start at 1000, categories at 10; prices are whole cents.
"""

from __future__ import annotations

from typing import Literal

import streamcore as sc

KINDS = {
    "person": ("id", "name", "email_address", "credit_card", "city", "state", "date_time", "extra"),
    "auction": (
        "id", "item_name", "description", "initial_bid", "reserve", "date_time", "expires", "seller",
        "category", "extra",
    ),
    "bid": ("auction", "bidder", "price", "channel", "url", "date_time", "extra"),
}  # fmt: skip

MAX_LATENESS = "4s"
"""How far the reference's watermarks lag behind the newest event."""

_YEAR_10000 = 253_402_300_800_000


class NexmarkEvent(sc.Event):
    """A person, an auction or a bid; the fields of the other kinds are null.

    ``date_time`` and ``expires`` are milliseconds since 1970. ``seller`` and ``bidder`` are ids of
    people, ``auction`` is one of an auction. ``extra`` only fills the event up to its usual size.
    """

    event: Literal["person", "auction", "bid"]
    id: int | None = None
    name: str | None = None
    email_address: str | None = None
    credit_card: str | None = None
    city: str | None = None
    state: str | None = None
    item_name: str | None = None
    description: str | None = None
    initial_bid: int | None = None
    reserve: int | None = None
    expires: int | None = None
    seller: int | None = None
    category: int | None = None
    auction: int | None = None
    bidder: int | None = None
    price: int | None = None
    channel: str | None = None
    url: str | None = None
    # Within what a calendar can say, for q10 and q14 ask for the day and the hour.
    date_time: int = sc.Field(ge=0, lt=_YEAR_10000)
    extra: str | None = None


def events(topology: sc.Topology) -> sc.Stream:
    """Declare the stream ``events``, read from the topic ``nexmark``, in *topology*."""
    return topology.stream(
        "events", NexmarkEvent, event_time="date_time", max_lateness=MAX_LATENESS, topic="nexmark"
    )
