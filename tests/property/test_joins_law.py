"""Joins against a model that sees one row at a time, and what comes out of them in any cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import HIDDEN, HIDDEN_TYPES, OFFSET, OP, OP_DELETE, OP_UPDATE_AFTER
from streamcore.event_time import BEGINNING, END
from streamcore.passage import union
from streamcore.state.operator import Operator, State
from streamcore.state.runs import HASH
from streamcore.tables.as_of_join import AsOfJoin
from streamcore.tables.join import JoinOperator
from streamcore.tables.join_side import JoinShape, JoinSide
from streamcore.tables.outer_join import OuterJoin
from streamcore.tables.table_join import TableJoin

LEFT = pl.Schema({"id": pl.Int64, "name": pl.String, "at": pl.Int64})
RIGHT = pl.Schema({"of": pl.Int32, "name": pl.String, "seen": pl.Int64, "v": pl.Int64})
MS = 1_000
SPANS = {"any time": None, "within 5 ms": (-5 * MS, 5 * MS), "up to 8 ms later": (0, 8 * MS)}


def shape(timed: bool) -> JoinShape:
    return JoinShape(LEFT, RIGHT, {"id": "of", "name": "name"}, ("at", "seen") if timed else None)


JOINS = {
    (span, where): JoinOperator(shape(within is not None), within, where)
    for span, within in SPANS.items()
    for where in (None, "v > id")
}
TABLES = {"inner": TableJoin(shape(False), False), "left": TableJoin(shape(False), True)}


class Row(tuple[bool, Any, Any, int, int]):
    """(right, key, name, time in ms, value): a row of either side; a table's is deleted when v is 0."""


ROWS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([0, 1, None]),
        st.sampled_from(["a", "ä|b", None]),
        st.integers(0, 40),
        st.integers(0, 3),
    ).map(Row),
    max_size=30,
)
CUTS = st.lists(st.integers(0, 30), max_size=5)


def frame_of(op: JoinOperator | TableJoin, rows: Sequence[Row]) -> pl.DataFrame:
    """*rows* as they come to the log: both sides through their steps, and then together."""
    parts = []
    for side in (False, True):
        mine = [(offset, row) for offset, row in enumerate(rows) if row[0] == side]
        ops = [OP_DELETE if side and row[4] == 0 else OP_UPDATE_AFTER for _, row in mine]
        columns = RIGHT if side else LEFT
        values = [[row[1], row[2], row[3], row[4]][: len(columns)] for _, row in mine]
        frame = pl.DataFrame(values, schema=columns, orient="row").with_columns(
            pl.Series(OFFSET, [offset for offset, _ in mine], pl.Int64),
            pl.lit(0, pl.UInt32).alias("_sub"),
            pl.Series(OP, ops, pl.UInt8),
        )
        step = JoinSide(op.shape, side, op.keeps[side])
        parts.append(step.apply(frame.select(*columns, *HIDDEN_TYPES), "side").frame)
    return op.prepare(union(parts), "join").rows


def watermarks(rows: Sequence[Row], lateness: int) -> list[int]:
    """A watermark behind each row that no later row lies before."""
    marks, least = [], 10_000
    for row in reversed(rows):
        marks.append(min(least, row[3] + lateness) - lateness if least < 10_000 else 0)
        least = min(least, row[3])
    return [mark * MS for mark in reversed(marks)]


def run(
    op: Operator, rows: Sequence[Row], marks: Sequence[int], cuts: Sequence[int], again: int = 31
) -> tuple[list[tuple[Any, ...]], State]:
    """What comes out with its numbers; the state is written and read back at row *again*."""
    assert isinstance(op, JoinOperator | TableJoin)
    frame, state, found = frame_of(op, rows), op.empty, list[tuple[Any, ...]]()
    bounds = sorted({0, len(rows), *(min(c, len(rows)) for c in (*cuts, again))})
    for start, end in pairwise(bounds):
        if start == again:
            kept = [[run.drop(HASH) for run in runs] for runs in state.kept]
            state = replace(state, kept=op.restored(kept))
        part = frame.filter(pl.col(OFFSET).is_between(start, end, closed="left"))
        mark = marks[end - 1] if end > start else BEGINNING
        state, emission, late = op.apply(state, [part], mark)
        assert late == 0
        found += op.finish(emission).select(OFFSET, pl.exclude(HIDDEN)).rows()
    state, emission, _ = op.apply(state, [], END)
    assert op.orderly or isinstance(op, AsOfJoin) or not emission.height
    found += op.finish(emission).select(OFFSET, pl.exclude(HIDDEN)).rows()
    return found, state


def model(op: JoinOperator, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Every pair, in the order of its later row and then of its earlier one."""
    found: list[tuple[Any, ...]] = []
    for later, row in enumerate(rows):
        for earlier in rows[:later]:
            left, right = (earlier, row) if row[0] else (row, earlier)
            if earlier[0] == row[0] or None in (row[1], row[2]) or row[1:3] != earlier[1:3]:
                continue
            apart = (right[3] - left[3]) * MS
            if op.within is not None and not op.within[0] <= apart <= op.within[1]:
                continue
            if op.where is None or right[4] > left[1]:
                found.append((len(found), left[1], left[2], left[3], right[1], right[3], right[4]))
    return found


def table_model(op: TableJoin, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    table: dict[tuple[Any, Any], tuple[Any, ...]] = {}
    found: list[tuple[Any, ...]] = []
    for right, id, name, at, v in rows:
        if right and v == 0:
            table.pop((id, name), None)
        elif right:
            table[id, name] = (id, at, v)
        else:
            there = None if None in (id, name) else table.get((id, name))
            if there is not None or op.outer:
                found.append((len(found), id, name, at, *(there or (None, None, None))))
    return found


@pytest.mark.parametrize("name", JOINS, ids=str)
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, cuts=CUTS, again=st.integers(0, 31), lateness=st.integers(0, 5))
def test_each_pair_comes_once_with_the_same_number_in_any_cut(name, rows, cuts, again, lateness):
    op = JOINS[name]
    found, state = run(op, rows, watermarks(rows, lateness), cuts, again)
    assert found == model(op, rows)
    assert op.within is None or len(state) == 0


@pytest.mark.parametrize("full", [False, True])
@settings(deadline=None, max_examples=100)
@given(rows=ROWS, again=st.integers(0, 31), other=st.integers(0, 31), lateness=st.integers(0, 5))
def test_each_row_of_an_outer_join_comes_out(full, rows, again, other, lateness):
    op = OuterJoin(shape(True), SPANS["up to 8 ms later"], "v > id", full)
    marks, each = watermarks(rows, lateness), range(len(rows))
    found, state = run(op, rows, marks, each, again)
    assert len(state) == 0
    assert found == run(op, rows, marks, each, other)[0]
    pairs = model(op, rows)
    assert Counter(row[1:] for row in found if None not in (row[3], row[6])) == Counter(
        row[1:] for row in pairs
    )
    # Columns: number, id, name, at, of, seen, v. Rows that are equal match the same ones, or none.
    lefts = Counter(row[1:4] for row in rows if not row[0])
    rights = Counter((row[2], row[1], *row[3:5]) for row in rows if row[0] and full)
    for row in pairs:
        lefts.pop(row[1:4], None)
        rights.pop((row[2], *row[4:]), None)
    assert Counter(row[1:4] for row in found if row[6] is None) == lefts
    alone = [row for row in found if row[3] is None]
    assert Counter((row[2], *row[4:]) for row in alone) == rights
    assert [row[0] for row in found] == list(range(len(found)))


def test_rows_without_a_key_cost_no_more_than_others_in_a_full_join() -> None:
    op = OuterJoin(shape(True), SPANS["within 5 ms"], None, full=True)
    rows = [Row((bool(i % 2), None, "a", 1, 1)) for i in range(60_000)]
    state, emission, _ = op.apply(op.empty, [frame_of(op, rows)], 0)  # 900 million pairs have the same hash
    assert (emission.height, len(state)) == (0, 60_000)
    _, emission, _ = op.apply(state, [], END)
    assert emission.height == 60_000


@pytest.mark.parametrize("name", TABLES)
@settings(deadline=None, max_examples=100)
@given(rows=ROWS, cuts=CUTS, again=st.integers(0, 31))
def test_each_row_gets_what_the_table_says_when_it_comes(name, rows, cuts, again):
    found, _ = run(TABLES[name], rows, [BEGINNING] * len(rows), cuts, again)
    assert found == table_model(TABLES[name], rows)


def test_rows_that_nothing_can_match_any_more_are_forgotten() -> None:
    op = JOINS["within 5 ms", None]
    state, sizes = op.empty, list[int]()
    for start in range(0, 20_000, 200):
        rows = [Row((i % 2 == 0, i, "a", start + i, 1)) for i in range(200)]
        state, _, _ = op.apply(state, [frame_of(op, rows)], (start + 190) * MS)
        sizes.append(len(state))
    assert max(sizes) <= 1_000


def test_a_row_that_comes_behind_the_watermark_matches_what_is_alive_only() -> None:
    """As rows of a partition do that was idle: whether a merge has dropped what it matches must not show."""
    op = JOINS["within 5 ms", None]
    rows: Mapping[str, Sequence[Row]] = {
        "old": [Row((False, 1, "a", 10, 0)), Row((False, 1, "a", 18, 0))],
        "late": [Row((True, 1, "a", 14, 0))],
    }
    state, _, _ = op.apply(op.empty, [frame_of(op, rows["old"])], 16 * MS)
    state, emission, late = op.apply(state, [frame_of(op, rows["late"])], 16 * MS)
    assert (op.finish(emission)["at"].to_list(), late) == ([18], 0)
    _, emission, late = op.apply(state, [frame_of(op, [Row((True, 1, "a", 9, 0))])], 16 * MS)
    assert (emission.height, late) == (0, 1)
