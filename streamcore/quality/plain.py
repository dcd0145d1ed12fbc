"""Values as JSON has them: what reports and stores keep of a row."""

from __future__ import annotations

import math
from typing import TypeAlias

Plain: TypeAlias = "str | int | float | bool | None"

LONGEST = 120
"""Characters of a text that are shown."""


def plain(value: object) -> Plain:
    """*value* as JSON has it: numbers and truth as they are, all else as text, cut when it is long."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
