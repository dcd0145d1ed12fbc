"""The rule ``unique`` against a model that sees one row at a time, in any cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import OFFSET
from streamcore.event_time import BEGINNING, judge
from streamcore.state.operator import LATE_MARK
from streamcore.state.runs import HASH
from streamcore.tables.declaration import unique_operator
from streamcore.tables.unique import UniqueOperator
from streamcore.validation.rules import DUPLICATE

COLUMNS = pl.Schema({"a": pl.Int64, "b": pl.String, "at": pl.Int64})
LATENESS = 4
Row = tuple[int | None, str | None, int]
ROWS = st.lists(
    st.tuples(st.none() | st.integers(0, 2), st.sampled_from(["x", "y", None]), st.integers(0, 30)),
    max_size=60,
)
CUTS = st.lists(st.integers(0, 60), max_size=8)
Keys = tuple[str, ...]


def late_ones(rows: Sequence[Row]) -> tuple[list[bool], list[int]]:
    """Which rows are late, and the watermark behind each."""
    times = pl.Series([row[2] for row in rows], dtype=pl.Int64).to_numpy() * 1_000
    late, watermarks, watermark = [], [], BEGINNING
    for time in times:
        judged = judge(times.dtype.type(time).reshape(1), watermark, LATENESS * 1_000)
        watermark = judged.watermark
        late.append(bool(judged.late[0]))
        watermarks.append(watermark)
    return late, watermarks


def run(
    op: UniqueOperator, rows: Sequence[Row], cuts: Sequence[int], again: int
) -> list[tuple[int, bool, bool]]:
    """Number, mark and lateness of each row that comes out; the state is read back at row *again*."""
    late, watermarks = late_ones(rows)
    columns = {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}
    frame = pl.DataFrame({**columns, LATE_MARK: late, OFFSET: range(len(rows))}, schema=op.no_rows.schema)
    state, found = op.empty, list[tuple[int, bool, bool]]()
    bounds = sorted({0, len(rows), *(min(cut, len(rows)) for cut in (*cuts, again))})
    for start, end in pairwise(bounds):
        if start == again:
            state = replace(state, kept=op.restored([[r.drop(HASH) for r in runs] for runs in state.kept]))
        state, emission, dropped = op.apply(state, [frame[start:end]], watermarks[end - 1])
        assert dropped == 0
        assert op.finish(emission).drop("_offset", "_sub", "_op").schema == op.columns
        found += emission.select(OFFSET, DUPLICATE, LATE_MARK).rows()
    return found


def model(by: Keys, within: int | None, rows: Sequence[Row]) -> list[tuple[int, bool, bool]]:
    places = [COLUMNS.names().index(name) for name in by]
    passed: dict[tuple[object, ...], int] = {}
    late, _ = late_ones(rows)
    found = []
    for number, row in enumerate(rows):
        key = tuple(row[place] for place in places)
        if None in key:
            mark = False
        elif within is None:
            mark = key in passed
        else:
            mark = late[number] or (key in passed and abs(row[2] - passed[key]) <= within)
        if not mark and None not in key:
            passed[key] = row[2]
        found.append((number, mark, late[number]))
    return found


@pytest.mark.parametrize("by", [("a",), ("a", "b")])
@pytest.mark.parametrize("within", [None, 6])
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, cuts=CUTS, again=st.integers(0, 60))
def test_a_row_is_marked_when_a_row_before_it_has_its_key_in_any_cut(by, within, rows, cuts, again):
    micros = None if within is None else within * 1_000
    op = unique_operator(by, COLUMNS, stream="s", time="at", within=micros)
    assert run(op, rows, cuts, again) == model(by, within, rows)
