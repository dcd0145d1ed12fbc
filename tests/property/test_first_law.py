"""The first row of each key against a model that sees one row at a time, in any cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import HIDDEN, OFFSET, OP, OP_INSERT, SUB
from streamcore.event_time import BEGINNING, END, judge, microseconds
from streamcore.state import runs
from streamcore.state.operator import State
from streamcore.state.runs import HASH
from streamcore.tables import first as module_of_first
from streamcore.tables import passing
from streamcore.tables.declaration import first_operator
from streamcore.tables.first import FirstOperator

COLUMNS = pl.Schema({"a": pl.String, "b": pl.Float64, "t": pl.Int64, "v": pl.Int64})
MS = 1_000
Row = tuple[str | None, float | None, int | None, int]
ROW = st.tuples(
    st.sampled_from([None, "x", "日本"]),
    st.sampled_from([None, 0.0, -0.0, math.nan, 1.5]),
    st.one_of(st.integers(-9, 9), st.integers(-9, 9), st.none()),
    st.integers(0, 9),
)


def drifting(rows: Sequence[Row]) -> list[Row]:
    """*rows* with times that grow, so that most are not late whatever the lateness."""
    return [(a, b, None if t is None else t + place // 2, v) for place, (a, b, t, v) in enumerate(rows)]


# Lists of a drawn length: hypothesis would make most lists too short to be cut.
ROWS = st.integers(0, 40).flatmap(lambda n: st.lists(ROW, min_size=n, max_size=n)).map(drifting)
CUTS = st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=6)
"""After how many percent of the rows a call begins, and whether another process goes on from there."""
OPERATORS = st.builds(
    lambda by, within: first_operator(by, COLUMNS, stream="s", time="t", within=within),
    st.sampled_from([["a"], ["b"], ["a", "b"]]),
    st.sampled_from([None, 1 * MS, 4 * MS, 15 * MS]),
)
LATENESS = st.sampled_from([0, 6, 100])
Told = tuple[Any, ...]


def frame_of(rows: Sequence[Row], first: int) -> pl.DataFrame:
    hidden = [(first + i, 0, 0) for i in range(len(rows))]
    schema = {**COLUMNS, OFFSET: pl.Int64, SUB: pl.UInt32, OP: pl.UInt8}
    return pl.DataFrame([(*r, *h) for r, h in zip(rows, hidden, strict=True)], schema=schema, orient="row")


def comparable(value: object) -> object:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def run(
    op: FirstOperator, lateness: int, rows: Sequence[Row], cuts: Sequence[tuple[int, bool]]
) -> tuple[list[Told], list[int]]:
    """(rows that pass, behind their numbers; offsets of rows without a time)."""
    state, passed, timeless = op.empty, [], []
    bounds = [(0, False), *sorted((at * len(rows) // 100, moved) for at, moved in cuts), (len(rows), False)]
    watermark = BEGINNING
    for (start, moved), (end, _) in pairwise(bounds):
        if moved:
            kept = op.restored([[r.drop(HASH) for r in state.kept[0]]])
            state = State(kept, state.watermark, state.emitted)
        delta = op.prepare(frame_of(rows[start:end], start), "first")
        came = delta.rows
        if op.timed:
            judged = judge(microseconds(came["t"]).to_numpy(), watermark, lateness * MS)
            came, watermark = came.filter(pl.Series(~judged.late, dtype=pl.Boolean)), judged.watermark
        before = state.emitted
        state, emission, late = op.apply(state, [came], watermark)
        assert late == 0
        out = op.finish(emission)
        assert dict(out.drop(HIDDEN).schema) == dict(op.columns)
        assert set(out[OP]) <= {OP_INSERT}
        assert out[OFFSET].to_list() == list(range(before, state.emitted))
        passed += [tuple(comparable(v) for v in r) for r in out.select(OFFSET, *op.columns).iter_rows()]
        timeless += delta.rejects.frame[OFFSET].to_list()
    if op.timed:
        assert len(op.apply(state, [], END).state) == 0
    return passed, timeless


def model(op: FirstOperator, lateness: int, rows: Sequence[Row]) -> tuple[list[Told], list[int]]:
    """One row at a time, in milliseconds; nothing is ever forgotten."""
    watermark, last = -math.inf, dict[tuple[Any, ...], int]()
    passed: list[Told] = []
    timeless = []
    for offset, row in enumerate(rows):
        key = tuple(comparable(row[COLUMNS.names().index(column)]) for column in op.by)
        time = row[2]
        if op.within is None:
            passes = key not in last
            last[key] = 0
        elif time is None:
            timeless.append(offset)
            continue
        else:
            late, watermark = time < watermark, max(watermark, time - lateness)
            if late:
                continue
            passes = key not in last or abs(time - last[key]) > op.within // MS
            last[key] = time if passes else last[key]
        if passes:
            passed.append((len(passed), *(comparable(v) for v in row)))
    return passed, timeless


@settings(deadline=None, max_examples=400)
@given(op=OPERATORS, lateness=LATENESS, rows=ROWS, cuts=CUTS)
def test_the_rows_that_pass_are_those_of_the_model_with_equal_numbers_in_any_cut(op, lateness, rows, cuts):
    assert run(op, lateness, rows, cuts) == model(op, lateness, rows)


@settings(deadline=None, max_examples=100)
@given(op=OPERATORS, lateness=LATENESS, rows=ROWS, cuts=CUTS)
def test_keys_with_the_same_hash_are_told_apart(op, lateness, rows, cuts):
    with pytest.MonkeyPatch.context() as patch:
        for module in (runs, module_of_first):
            patch.setattr(module, "hashes_of", lambda frame, keys: np.zeros(frame.height, np.uint64))
        assert run(op, lateness, rows, cuts) == model(op, lateness, rows)


@settings(deadline=None, max_examples=100)
@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=40), block=st.integers(1, 9))
def test_rounds_in_blocks_judge_as_row_by_row(rows, block):
    keys, times = (np.array([r[i] for r in rows], np.int64) for i in (0, 1))
    low, high = np.full((2, 4), BEGINNING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passing, "_BLOCK", block)
        got = passing.passing(keys, times, low, high, 5).tolist()
    last: dict[int, int] = {}
    expected = []
    for place, (key, time) in enumerate(rows):
        if key not in last or abs(time - last[key]) > 5:
            expected.append(place)
            last[key] = time
    assert got == expected
    assert {key: int(high[key]) - 5 for key in last} == last


def test_a_row_behind_the_watermark_is_late_and_keys_are_forgotten():
    op = first_operator(["a"], COLUMNS, stream="s", time="t", within=5 * MS)
    rows = [op.prepare(frame_of([(key, None, t, 0)], i), "f").rows for i, (key, t) in enumerate([("x", 10)])]
    state = op.apply(op.empty, rows, 15 * MS).state
    assert len(state) == 1, "a row with the time 15 is still within 5 ms"
    late = op.apply(state, rows, 15 * MS)
    assert (late.late, late.emission.height, late.state.emitted) == (1, 0, 1)
    assert len(op.apply(state, [], 15 * MS + 1).state) == 0
