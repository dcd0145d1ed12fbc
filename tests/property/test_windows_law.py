"""Windows against a model that sees one row at a time, and their emissions in any cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.aggregates.aggregation import Aggregation
from streamcore.batch import HIDDEN, OFFSET, OP, SUB
from streamcore.event_time import END, judge, microseconds
from streamcore.windows.assigners import Aligned, Session, WindowKind
from streamcore.windows.operator import WindowOperator

COLUMNS = pl.Schema({"key": pl.String, "t": pl.Int64, "v": pl.Int64})
MS = 1_000
KINDS: dict[str, WindowKind] = {
    "tumbling": Aligned(10 * MS, 10 * MS),
    "tumbling with an offset": Aligned(10 * MS, 10 * MS, 3 * MS),
    "hopping": Aligned(10 * MS, 2 * MS),
    "hopping by a step that does not divide the size": Aligned(10 * MS, 4 * MS, 1 * MS),
    "session": Session(5 * MS),
}
Row = tuple[str | None, int | None, int]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]), st.one_of(st.none(), st.integers(-40, 60)), st.integers(-9, 9)
    ),
    max_size=40,
)
CUTS = st.lists(st.integers(0, 40), max_size=5)


def operator(kind: WindowKind) -> WindowOperator:
    aggregation = Aggregation.of({"n": "count(*)", "total": "sum(v)", "least": "min(v)"}, COLUMNS)
    return WindowOperator(kind, ("key",), aggregation, "t", COLUMNS)


def frame_of(rows: Sequence[Row], first: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "key": [r[0] for r in rows],
            "t": [r[1] for r in rows],
            "v": [r[2] for r in rows],
            OFFSET: range(first, first + len(rows)),
            SUB: [0] * len(rows),
            OP: [0] * len(rows),
        },
        schema={**COLUMNS, OFFSET: pl.Int64, SUB: pl.UInt32, OP: pl.UInt8},
    )


def run(
    op: WindowOperator, lateness: int, rows: Sequence[Row], cuts: Sequence[int]
) -> tuple[list[tuple[Any, ...]], list[int], list[int]]:
    """(emissions with their numbers, offsets of late rows, offsets of rows without a time)."""
    state, emitted, late, timeless = op.empty, [], [], []
    bounds = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
    for start, end in pairwise(bounds):
        delta = op.prepare(frame_of(rows[start:end], start), "w")
        judged = judge(microseconds(delta.rows["t"]).to_numpy(), state.watermark, lateness * MS)
        on_time = delta.rows.filter(pl.Series(~judged.late, dtype=pl.Boolean))
        state, emission, dropped = op.apply(state, [on_time], judged.watermark)
        assert dropped == 0
        emitted += _rows(op, emission)
        late += delta.rows.filter(pl.Series(judged.late, dtype=pl.Boolean))[OFFSET].to_list()
        timeless += delta.rejects.frame[OFFSET].to_list()
    state, emission, _ = op.apply(state, [], END)
    assert len(state) == 0
    emitted += _rows(op, emission)
    return emitted, late, timeless


def _rows(op: WindowOperator, closed: pl.DataFrame) -> list[tuple[Any, ...]]:
    return op.finish(closed).select(OFFSET, pl.exclude(HIDDEN)).rows() if closed.height else []


def model(
    kind: WindowKind, lateness: int, rows: Sequence[Row]
) -> tuple[list[tuple[Any, ...]], list[int], list[int]]:
    """One row at a time, in milliseconds."""
    watermark: float = float("-inf")
    open_: list[dict[str, Any]] = []
    closed: list[dict[str, Any]] = []
    late, timeless = [], []

    def close() -> None:
        done = [w for w in open_ if _is_closed(kind, w, watermark)]
        closed.extend(
            sorted(done, key=lambda w: (w["end"], w["start"], w["key"] is not None, w["key"] or ""))
        )
        open_[:] = [w for w in open_ if w not in done]

    for offset, (key, time, value) in enumerate(rows):
        if time is None:
            timeless.append(offset)
            continue
        if time < watermark:
            late.append(offset)
            continue
        _put(kind, open_, key, time, value)
        watermark = max(watermark, time - lateness)
        close()
    watermark = float("inf")
    close()
    found = [
        (i, w["key"], w["start"], w["end"], len(w["values"]), sum(w["values"]), min(w["values"]))
        for i, w in enumerate(closed)
    ]
    return found, late, timeless


def _is_closed(kind: WindowKind, window: dict[str, Any], watermark: float) -> bool:
    return watermark > window["end"] if isinstance(kind, Session) else watermark >= window["end"]


def _put(kind: WindowKind, open_: list[dict[str, Any]], key: str | None, time: int, value: int) -> None:
    if isinstance(kind, Session):
        gap = kind.gap // MS
        mine = {"key": key, "start": time, "end": time + gap, "values": [value]}
        for other in [w for w in open_ if w["key"] == key]:
            if other["start"] - gap <= time <= other["end"]:
                open_.remove(other)
                mine["start"] = min(mine["start"], other["start"])
                mine["end"] = max(mine["end"], other["end"])
                mine["values"] = other["values"] + mine["values"]
        open_.append(mine)
        return
    assert isinstance(kind, Aligned)
    size, every, offset = kind.size // MS, kind.every // MS, kind.offset // MS
    for start in range(time - size + 1, time + 1):
        if (start - offset) % every == 0:
            same = [w for w in open_ if (w["key"], w["start"]) == (key, start)]
            if same:
                same[0]["values"].append(value)
            else:
                open_.append({"key": key, "start": start, "end": start + size, "values": [value]})


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=200)
@given(rows=ROWS, cuts=CUTS, lateness=st.sampled_from([0, 3, 25]))
def test_windows_are_those_of_the_model_with_equal_numbers_in_any_cut(name, rows, cuts, lateness):
    kind = KINDS[name]
    assert run(operator(kind), lateness, rows, cuts) == model(kind, lateness, rows)
