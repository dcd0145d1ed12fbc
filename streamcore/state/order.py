"""The order of rows by event time, then by the partition they came from, then by their offset.

That does not depend on how the partitions were read, so what is first, last or a list in a window is the
same in any run. Within a partition rows come by their offset, and what is equal stays in that order.
"""

from __future__ import annotations

import polars as pl

from streamcore.batch import OFFSET
from streamcore.state.operator import UPSTREAM

ORDER = "_order"
"""Hidden column of rows, Int128: the event time in microseconds times 2^32, and the upstream's number."""


def asked_for(order: bool) -> dict[str, pl.DataType]:
    """The hidden columns that an operator needs of rows; with *order*, such that :func:`ordered` adds it."""
    upstream: dict[str, pl.DataType] = {UPSTREAM: pl.Int64()} if order else {}
    return {OFFSET: pl.Int64(), **upstream}


def timeless(time: str) -> str:
    """Why a row without a value of column *time* is refused."""
    return f"{time} holds no time, so the row belongs to no window"


def ordered(rows: pl.DataFrame, times: pl.Series) -> pl.DataFrame:
    """*rows* at *times* (microseconds) without their positions, but with ORDER if UPSTREAM is there."""
    if UPSTREAM not in rows.columns:
        return rows.drop(OFFSET)
    order = pl.lit(times.cast(pl.Int128)) * (1 << 32) + pl.col(UPSTREAM)
    return rows.with_columns(order.alias(ORDER)).drop(OFFSET, UPSTREAM)
