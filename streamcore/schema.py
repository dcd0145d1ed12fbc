"""Event models and columnar schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl
from pydantic import BaseModel


class Event(BaseModel):
    """Base of a stream's events: a pydantic model whose fields are the stream's columns."""


@dataclass(frozen=True, slots=True)
class StreamSchema:
    """What a stream's rows look like once decoded.

    ``columns``: names and types. ``required``: columns that may not be null. ``event``: the model
    that decides about rows which the column checks can't pass, or None. ``aliases``: input name of
    a field -> column, for inputs whose names are no Python names.
    """

    columns: pl.Schema
    required: frozenset[str] = frozenset()
    event: type[Event] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
