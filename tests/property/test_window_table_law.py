"""Windows that are kept up to date: in any cut the last update of each is what the closed window has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import HIDDEN, OFFSET
from streamcore.event_time import END, judge, microseconds
from streamcore.state.runs import HASH
from streamcore.windows.assigners import Aligned, Session, WindowKind
from streamcore.windows.declaration import window_operator, window_table
from streamcore.windows.session_table import SessionWindowTable
from streamcore.windows.table import WindowTable
from tests.property.test_windows_law import COLUMNS, MS, Row, frame_of

KINDS = {
    "tumbling": Aligned(10 * MS, 10 * MS, 3 * MS),
    "hopping": Aligned(10 * MS, 2 * MS),
    "hopping by a step that does not divide the size": Aligned(10 * MS, 4 * MS, 1 * MS),
}
AGGREGATES = {"n": "count(*)", "total": "sum(v)", "least": "min(v)"}
GIVEN: dict[str, Any] = {"stream": "s", "time": "t", "of_windows": False}
LATENESS = 12
FEW = st.tuples(st.sampled_from(["a", None]), st.one_of(st.none(), st.integers(0, 25)), st.integers(-9, 9))
ROWS = st.lists(FEW, max_size=20)
CUTS = st.lists(st.integers(0, 20), max_size=4)
Update = tuple[int, tuple[Any, ...], tuple[Any, ...]]


def run(
    op: WindowTable | SessionWindowTable, rows: Sequence[Row], cuts: Sequence[int]
) -> tuple[list[Update], int]:
    """The updates, and the number behind them; the state goes through a snapshot each time."""
    state, updates = op.empty, list[Update]()
    for start, end in pairwise([0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]):
        given_rows = op.prepare(frame_of(rows[start:end], start), "w").rows
        judged = judge(microseconds(given_rows["t"]).to_numpy(), state.watermark, LATENESS * MS)
        on_time = given_rows.filter(pl.Series(~judged.late, dtype=pl.Boolean))
        before = state.emitted
        state, emission, late = op.apply(state, [on_time], judged.watermark)
        assert late == 0
        frame = op.finish(emission)
        numbers = frame[OFFSET].to_list()
        assert numbers == sorted(set(numbers))
        assert all(before <= number < state.emitted for number in numbers)
        keys, others = frame.select(op.key).rows(), frame.drop(*op.key, *HIDDEN).rows()
        updates += zip(numbers, keys, others, strict=True)
        kept = [[run.drop(HASH) for run in runs] for runs in state.kept]
        state = replace(state, kept=op.restored(kept))
    state, emission, _ = op.apply(state, [], END)
    assert (len(state), emission.height) == (0, 0)
    return updates, state.emitted


def closed(kind: WindowKind, rows: Sequence[Row]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What the windows are when they are over."""
    op = window_operator(kind, ("key",), AGGREGATES, COLUMNS, **GIVEN)
    prepared = op.prepare(frame_of(rows, 0), "w").rows
    judged = judge(microseconds(prepared["t"]).to_numpy(), op.empty.watermark, LATENESS * MS)
    on_time = prepared.filter(pl.Series(~judged.late, dtype=pl.Boolean))
    frame = op.finish(op.apply(op.empty, [on_time], END).emission).drop(HIDDEN)
    return {row[:2]: row[2:] for row in frame.rows()}


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=120)
@given(rows=ROWS, cuts=CUTS, others=CUTS, data=st.data())
def test_updates_of_two_cuts_joined_anywhere_end_in_the_closed_windows(name, rows, cuts, others, data):
    op = window_table(KINDS[name], ("key",), AGGREGATES, COLUMNS, **GIVEN)
    (some, end), (again, same_end) = run(op, rows, cuts), run(op, rows, others)
    assert end == same_end
    number = data.draw(st.integers(0, end))
    mixed = [u for u in some if u[0] < number] + [u for u in again if u[0] >= number]
    assert {key: row for _, key, row in mixed} == closed(KINDS[name], rows)


@settings(deadline=None, max_examples=120)
@given(rows=ROWS, cuts=CUTS)
def test_a_table_of_sessions_ends_in_the_closed_sessions(rows, cuts):
    kind = Session(5 * MS)
    updates, _ = run(window_table(kind, ("key",), AGGREGATES, COLUMNS, **GIVEN), rows, cuts)
    table: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for _, key, row in updates:
        if row[0] is None:  # a deletion has its key only
            del table[key]
        else:
            table[key] = row
    assert table == closed(kind, rows)
