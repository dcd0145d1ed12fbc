"""How bad a finding is, and thresholds that say so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("ok", "warn", "fail")


def worst(levels: Iterable[Level]) -> Level:
    """The worst of *levels*; "ok" without any."""
    return max(levels, key=LEVELS.index, default="ok")


def above(value: float, warn: float | None, fail: float | None) -> Level:
    """How bad *value* is where more is worse; None: it never is."""
    if fail is not None and value >= fail:
        return "fail"
    return "warn" if warn is not None and value >= warn else "ok"


def below(value: float, warn: float | None, fail: float | None) -> Level:
    """How bad *value* is where less is worse; None: it never is."""
    if fail is not None and value < fail:
        return "fail"
    return "warn" if warn is not None and value < warn else "ok"
