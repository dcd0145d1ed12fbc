"""Durations as people write them: ``"90s"``, ``"1.5h"``."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from streamcore.errors import BadConfig, did_you_mean

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MICROSECOND = dt.timedelta(microseconds=1)


def duration(value: str | dt.timedelta) -> dt.timedelta:
    """*value* as a timedelta; BadConfig for what is no duration."""
    if isinstance(value, dt.timedelta):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", value)
    if not match or match[2] not in _UNITS:
        hint = did_you_mean(match[2], _UNITS) if match else None
        raise BadConfig(
            "this is no duration", got=value, allowed=["90s", "5m", "1h", "250ms", "2d"], fix=hint
        )
    return dt.timedelta(milliseconds=float(match[1]) * _UNITS[match[2]])


def _checked(text: str) -> str:
    duration(text)
    return text


DurationText: TypeAlias = Annotated[str, AfterValidator(_checked)]
"""An option that is a duration, as text; BadConfig for what is none."""


def seconds(value: str | dt.timedelta) -> float:
    """:func:`duration` in seconds."""
    return duration(value).total_seconds()


def microseconds_of(value: str | dt.timedelta) -> int:
    """:func:`duration` in whole microseconds."""
    return duration(value) // _MICROSECOND
