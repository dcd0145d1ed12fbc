"""The best rows of each group against a model that sees one row at a time, and their updates in any cut."""

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

from streamcore.batch import HIDDEN, OFFSET, OP, OP_UPDATE_AFTER, SUB
from streamcore.state import runs
from streamcore.state.operator import State
from streamcore.state.runs import HASH
from streamcore.tables import top
from streamcore.tables.declaration import top_operator
from streamcore.tables.top import TopOperator

COLUMNS = pl.Schema({"a": pl.String, "b": pl.Float64, "p": pl.Float64, "t": pl.Int64, "s": pl.String})
FLOATS = st.sampled_from([None, 0.0, -0.0, 1.5, -1.0, math.inf, math.nan])
TEXTS = st.sampled_from([None, "", "a", "é", "日本", "\U0001f600"])
Row = tuple[str | None, float | None, float | None, int | None, str | None]
ROW = st.tuples(
    st.sampled_from([None, "x", "ü"]),
    st.sampled_from([None, 0.0, -0.0, math.nan]),
    FLOATS,
    st.one_of(st.none(), st.integers(-2, 2)),
    TEXTS,
)
# Lists of a drawn length: hypothesis would make most lists too short to be cut.
ROWS = st.integers(0, 40).flatmap(lambda n: st.lists(ROW, min_size=n, max_size=n))
CUTS = st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=6)
"""After how many percent of the rows a call begins, and whether another process goes on from there."""
OPERATORS = st.builds(
    lambda by, order, n: top_operator(by, order, COLUMNS, n=n),
    st.sampled_from([["a"], ["b"], ["a", "b"]]),
    st.sampled_from(["p", "p desc", "t desc, p", "s desc, t", "p, s desc", "t"]),
    st.integers(1, 3),
)
Updates = dict[int, tuple[Any, ...]]
"""What each number says: the row of a group and rank."""


def frame_of(rows: Sequence[Row], first: int) -> pl.DataFrame:
    hidden = [(first + i, 0, 0) for i in range(len(rows))]
    schema = {**COLUMNS, OFFSET: pl.Int64, SUB: pl.UInt32, OP: pl.UInt8}
    return pl.DataFrame([(*r, *h) for r, h in zip(rows, hidden, strict=True)], schema=schema, orient="row")


def comparable(value: object) -> object:
    """*value* so that NaN equals itself, and 0.0 as a key what equals it."""
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def run(op: TopOperator, rows: Sequence[Row], cuts: Sequence[tuple[int, bool]]) -> list[Updates]:
    """The updates of each call."""
    state, calls = op.empty, []
    bounds = [(0, False), *sorted((at * len(rows) // 100, moved) for at, moved in cuts), (len(rows), False)]
    for (start, moved), (end, _) in pairwise(bounds):
        if moved:
            state = State(op.restored([[r.drop(HASH) for r in state.kept[0]]]), 0, state.emitted)
        middle = (start + end) // 2
        frames = [frame_of(rows[start:middle], start), frame_of(rows[middle:end], middle)]
        before = state.emitted
        state, emission, late = op.apply(state, [op.prepare(f, "top").rows for f in frames], 0)
        assert late == 0
        out = op.finish(emission)
        assert dict(out.drop(HIDDEN).schema) == dict(op.columns)
        assert set(out[OP]) <= {OP_UPDATE_AFTER}
        assert set(out[SUB]) <= {0}
        numbers = out[OFFSET].to_list()
        assert numbers == sorted(set(numbers))
        assert all(before <= number < state.emitted for number in numbers)
        calls.append(dict(zip(numbers, shown(out.drop(HIDDEN)), strict=True)))
    return calls


def shown(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(comparable(v) for v in row) for row in frame.iter_rows()]


def better(op: TopOperator, row: Row) -> tuple[Any, ...]:
    """A key by which better rows sort first; rows that are equal in it stay in their order."""
    parts: list[Any] = []
    for column, descending in op.order:
        value = row[COLUMNS.names().index(column)]
        parts.append(value is None)
        if value is None:
            continue
        if isinstance(value, str):
            code = [byte + 1 for byte in value.encode()]
            parts.append([-c for c in code] + [1] if descending else [*code, 0])
        else:
            nan = math.isnan(value)
            parts.append(-nan if descending else nan)
            parts.append(0 if nan else -value if descending else value)
    return tuple(parts)


def model(op: TopOperator, rows: Sequence[Row]) -> Updates:
    """Every change of any rank, one row at a time."""
    best: dict[tuple[Any, ...], list[tuple[int, Row]]] = {}
    updates: Updates = {}
    for arrival, row in enumerate(rows):
        group = tuple(comparable(row[COLUMNS.names().index(column)]) for column in op.by)
        mine = sorted([*best.get(group, []), (arrival, row)], key=lambda r: better(op, r[1]))[: op.n]
        best[group] = mine
        entered = [came for came, _ in mine].index(arrival) if (arrival, row) in mine else op.n
        for rank, (_, ranked) in enumerate(mine[entered:], entered):
            told = (*(comparable(v) for v in ranked), *([rank + 1] if op.rank else []))
            updates[arrival * op.n + rank] = told
    return updates


def table(op: TopOperator, updates: Updates) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    places = [op.columns.names().index(column) for column in op.key]
    return {tuple(updates[n][p] for p in places): updates[n] for n in sorted(updates)}


def together(calls: Sequence[Updates]) -> Updates:
    return {number: told for call in calls for number, told in call.items()}


@settings(deadline=None, max_examples=300)
@given(op=OPERATORS, rows=ROWS, cuts=CUTS)
def test_a_call_leaves_out_only_what_a_later_update_of_it_replaces(op, rows, cuts):
    expected, calls = model(op, rows), run(op, rows, cuts)
    assert sum(1 for _ in together(calls)) == sum(len(call) for call in calls)
    ends = [0, *sorted(at * len(rows) // 100 for at, _ in cuts), len(rows)]
    for (start, end), call in zip(pairwise(ends), calls, strict=True):
        of_call = {n: told for n, told in expected.items() if start * op.n <= n < end * op.n}
        last = table(op, of_call)
        assert table(op, call) == last
        assert call == {n: of_call[n] for n in call}
        assert len(call) == len(last)


@settings(deadline=None, max_examples=300)
@given(op=OPERATORS, rows=ROWS, cuts_a=CUTS, cuts_b=CUTS, data=st.data())
def test_updates_of_one_cut_and_then_of_another_give_the_same_table(op, rows, cuts_a, cuts_b, data):
    number = data.draw(st.integers(0, len(rows) * op.n))
    before = {n: told for n, told in together(run(op, rows, cuts_a)).items() if n < number}
    after = {n: told for n, told in together(run(op, rows, cuts_b)).items() if n >= number}
    assert table(op, before | after) == table(op, model(op, rows))


@settings(deadline=None, max_examples=100)
@given(op=OPERATORS, rows=ROWS, cuts=CUTS)
def test_the_state_holds_no_more_than_the_best_of_each_group_when_it_is_one_run(op, rows, cuts):
    state = op.empty
    for start, end in pairwise([0, *sorted(at * len(rows) // 100 for at, _ in cuts), len(rows)]):
        state = op.apply(state, [op.prepare(frame_of(rows[start:end], start), "top").rows], 0).state
    if len(state.kept[0]) == 1:
        assert len(state) == len(table(op, model(op, rows)))
    assert state.emitted == len(rows) * op.n


def test_the_update_has_the_number_of_the_row_that_made_it_not_of_the_last_row_read():
    op = top_operator(["a"], "t desc", COLUMNS, n=1)
    rows: list[Row] = [("x", None, None, t, None) for t in (5, 9, 1)]
    assert [list(call) for call in run(op, rows, [])] == [[1]]
    assert [list(call) for call in run(op, rows, [(34, False), (67, False)])] == [[0], [1], []]


@settings(deadline=None, max_examples=100)
@given(op=OPERATORS, rows=ROWS, cuts=CUTS)
def test_groups_with_the_same_hash_are_told_apart(op, rows, cuts):
    with pytest.MonkeyPatch.context() as patch:
        for module in (runs, top):
            patch.setattr(module, "hashes_of", lambda frame, keys: np.zeros(frame.height, np.uint64))
        assert table(op, together(run(op, rows, cuts))) == table(op, model(op, rows))
