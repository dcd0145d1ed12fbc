"""Batches put together from rows that columns proved right and rows that pydantic had to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from streamcore.batch import OFFSET, OP, OP_INSERT, REJECT_TYPES, SUB, Int64s, Rejects
from streamcore.contracts import Decoded
from streamcore.schema import Refusal, StreamSchema

Places = npt.NDArray[np.intp]
Subs = npt.NDArray[np.uint32]

_CONSTANTS = 1 << 18
"""Rows of the kept constant columns; more are made anew."""


@dataclass(slots=True)
class RowVerdicts:
    """Rows decided one by one, by place in the chunk: values of those that pass, reasons of the others."""

    places: list[int] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    refused: list[tuple[int, str, str, str]] = field(default_factory=list)

    def add(self, place: int, verdict: dict[str, Any] | Refusal, stage: str = "schema") -> None:
        """Note the *verdict* on the row at *place*; *stage* is where a refusal happened."""
        if isinstance(verdict, Refusal):
            self.refused.append((place, stage, verdict.code, verdict.message))
        else:
            self.places.append(place)
            self.values.append(verdict)

    def frame(self, columns: pl.Schema) -> pl.DataFrame:
        """The rows that pass, in columns."""
        series = [pl.Series(n, [v[n] for v in self.values], t, strict=True) for n, t in columns.items()]
        return pl.DataFrame(series)


def assemble(
    schema: StreamSchema,
    offsets: Int64s,
    subs: Subs | None,
    proved: pl.DataFrame,
    places: Places | None,
    verdicts: RowVerdicts,
) -> Decoded:
    """One batch in the records' order.

    *offsets* and *subs* (None: all 0) belong to the documents of the chunk; *proved* holds the rows at
    *places* (None: all of them).
    """
    if places is None and not verdicts.places:
        return Decoded(_hidden(proved, offsets, subs), _rejects(verdicts, offsets, subs))
    if places is None:
        places = np.arange(proved.height, dtype=np.intp)
    if verdicts.places:
        judged = np.array(verdicts.places, np.intp)
        values = verdicts.frame(schema.columns)
        if not len(places):
            proved, places = values, judged
        else:
            order = np.argsort(np.concatenate([places, judged]), kind="stable")
            places = np.concatenate([places, judged])[order]
            proved = pl.concat([proved, values])[order]
    frame = _hidden(proved, offsets[places], None if subs is None else subs[places])
    return Decoded(frame, _rejects(verdicts, offsets, subs))


def _hidden(frame: pl.DataFrame, offsets: Int64s, subs: Subs | None) -> pl.DataFrame:
    sub, op = _constants(frame.height)
    if subs is not None:
        sub = pl.Series(SUB, subs, pl.UInt32)
    return frame.hstack([pl.Series(OFFSET, offsets, pl.Int64), sub, op])


def _constants(rows: int) -> tuple[pl.Series, pl.Series]:
    """*rows* zeros as SUB, and as many inserts as OP."""
    if rows > _CONSTANTS:
        return _filled(rows)
    sub, op = _kept()
    return sub[:rows], op[:rows]  # for few rows a slice costs a tenth of a new series


@lru_cache(maxsize=1)
def _kept() -> tuple[pl.Series, pl.Series]:
    return _filled(_CONSTANTS)


def _filled(rows: int) -> tuple[pl.Series, pl.Series]:
    return (
        pl.Series(SUB, np.zeros(rows, np.uint32), pl.UInt32),
        pl.Series(OP, np.full(rows, OP_INSERT, np.uint8), pl.UInt8),
    )


def _rejects(verdicts: RowVerdicts, offsets: Int64s, subs: Subs | None) -> Rejects:
    rows: Sequence[tuple[int, str, str, str]] = sorted(verdicts.refused)
    if not rows:
        return Rejects()
    places = np.array([r[0] for r in rows], np.intp)
    return Rejects(
        pl.DataFrame(
            {
                OFFSET: offsets[places],
                SUB: np.zeros(len(rows), np.uint32) if subs is None else subs[places],
                "stage": [r[1] for r in rows],
                "code": [r[2] for r in rows],
                "message": [r[3] for r in rows],
            },
            schema=REJECT_TYPES,
        )
    )


def with_messages(rejects: Rejects, refused: Sequence[tuple[int, Refusal]]) -> Rejects:
    """*rejects* and whole messages that could not be read (offset, why), in the records' order."""
    rows = [(offset, 0, "decode", why.code, why.message) for offset, why in refused]
    more = Rejects(pl.DataFrame(rows, schema=REJECT_TYPES, orient="row"))
    return Rejects(Rejects.join([rejects, more]).frame.sort(OFFSET, SUB, maintain_order=True))
