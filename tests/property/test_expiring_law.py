"""Tables with a time to live against a model that sees one row at a time, in any cut into records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import HIDDEN, OFFSET, OP, OP_DELETE, OP_INSERT
from streamcore.event_time import BEGINNING, END
from streamcore.state.operator import State
from streamcore.state.runs import HASH
from streamcore.tables.declaration import expiring, group_operator, latest_operator, top_operator
from streamcore.tables.expiring import ExpiringOperator, TableOperator

COLUMNS = pl.Schema({"k": pl.String, "v": pl.Int64, "at": pl.Int64})
TTL = 20
"""Milliseconds, as are the times."""
LATENESS = 8


class Row(NamedTuple):
    k: str | None
    v: int | None
    at: int
    deleted: bool


Rows = Sequence[Row]
Table = dict[tuple[Any, ...], tuple[Any, ...]]
_ROW = st.builds(
    Row, st.sampled_from(["a", "b", None]), st.none() | st.integers(0, 5), st.integers(0, 15), st.booleans()
)
ROWS = st.lists(_ROW, max_size=40)
CUTS = st.lists(st.integers(0, 40), max_size=12)


def latest(by: tuple[str, ...], columns: pl.Schema) -> TableOperator:
    return latest_operator(by, columns)


def groups(by: tuple[str, ...], columns: pl.Schema) -> TableOperator:
    return group_operator(by, {"n": "count(*)", "most": "max(v)"}, columns)


def best(by: tuple[str, ...], columns: pl.Schema) -> TableOperator:
    return top_operator(by, "v desc", columns, n=2)


def of_latest(life: Rows) -> Table:
    return {} if life[-1].deleted else {(life[-1].k,): (life[-1].v, life[-1].at)}


def of_groups(life: Rows) -> Table:
    known = [row.v for row in life if row.v is not None]
    return {(life[0].k,): (len(life), max(known, default=None))}


def of_best(life: Rows) -> Table:
    ranked = sorted(life, key=lambda row: (row.v is None, -(row.v or 0)))
    return {(row.k, rank): (row.v, row.at) for rank, row in enumerate(ranked[:2], start=1)}


KINDS: dict[str, tuple[Callable[..., TableOperator], Callable[[Rows], Table]]] = {
    "latest": (latest, of_latest),
    "groups": (groups, of_groups),
    "best": (best, of_best),
}


def operator(kind: str) -> ExpiringOperator:
    return expiring(KINDS[kind][0], ("k",), COLUMNS, stream="s", time="at", ttl=TTL * 1_000)


def in_time(rows: Rows) -> list[Row]:
    """*rows* at the times at which they come (steps, now and then back), without those that are late."""
    on_time, now, newest = list[Row](), 0, 0
    for row in rows:
        now += row.at if row.at < 12 else (-LATENESS if row.at < 14 else 3 * TTL)
        if now >= newest - LATENESS:
            on_time.append(row._replace(at=now))
            newest = max(newest, now)
    return on_time


def run(op: ExpiringOperator, rows: Rows, cuts: Sequence[int], again: int) -> tuple[Table, State]:
    """What all updates make of a table, each piece between *cuts* a record; read back at row *again*."""
    state, table = op.empty, Table()
    bounds = sorted({0, len(rows), *(min(cut, len(rows)) for cut in (*cuts, again))})
    for start, end in pairwise(bounds):
        if start == again:
            kept = [[run.drop(HASH) for run in runs] for runs in state.kept]
            state = replace(state, kept=op.restored(kept))
        newest = max(row.at for row in rows[:end])
        before = state.emitted
        state, emission, late = op.apply(state, [_frame(op, rows[start:end])], (newest - LATENESS) * 1_000)
        frame = op.finish(emission)
        assert late == 0
        assert frame[OFFSET].to_list() == list(range(before, state.emitted))
        _update(table, op, frame)
        assert _shown(op, state) == table
    after = op.apply(state, [], END)
    assert not after.emission.height
    return table, after.state


def _frame(op: ExpiringOperator, rows: Rows) -> pl.DataFrame:
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    ops = [OP_DELETE if row.deleted else OP_INSERT for row in rows]
    frame = pl.DataFrame(
        {**columns, OP: ops, OFFSET: range(len(rows))}, schema={**COLUMNS, OP: pl.UInt8, OFFSET: pl.Int64}
    )
    return op.prepare(frame.with_columns(_sub=pl.lit(0, pl.UInt32)), "stage").rows


def _update(table: Table, op: ExpiringOperator, frame: pl.DataFrame) -> None:
    others = frame.drop(*op.key, *HIDDEN).rows()
    for key, row, done in zip(frame.select(op.key).rows(), others, frame[OP].to_list(), strict=True):
        table.pop(key, None)
        if done != OP_DELETE:
            table[key] = row


def _shown(op: ExpiringOperator, state: State) -> Table:
    shown = op.shown(state)
    assert shown.schema == op.columns
    return dict(zip(shown.select(op.key).rows(), shown.drop(op.key).rows(), strict=True))


def model(kind: str, rows: Rows) -> Table:
    """The last life of each key, unless the watermark is past its end."""
    lives: dict[str | None, list[Row]] = {}
    newest: dict[str | None, int] = {}
    for row in rows:
        if row.k in lives and row.at - newest[row.k] > TTL:
            lives[row.k] = []
        lives.setdefault(row.k, []).append(row)
        newest[row.k] = max(row.at, newest.get(row.k, row.at))
    watermark = max((row.at for row in rows), default=0) - LATENESS
    step = TTL * 1_000 // 16
    limit = (watermark - TTL) * 1_000 // step * step
    table = Table()
    for key, life in lives.items():
        if newest[key] * 1_000 >= limit:
            table |= KINDS[kind][1](life)
    return table


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, cuts=CUTS, again=st.integers(0, 40))
def test_a_key_lives_as_long_as_its_rows_say_in_any_cut(kind, rows, cuts, again):
    rows = in_time(rows)
    table, _ = run(operator(kind), rows, cuts, again)
    assert table == model(kind, rows)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_left_is_kept_no_more(kind):
    op, state, sizes = operator(kind), operator(kind).empty, []
    for number in range(90):  # new keys all the time, of which 21 or so live
        frame = _frame(op, [Row(f"key {number}", 1, number, False)])
        state = op.apply(state, [frame], number * 1_000).state
        sizes.append(len(state))
    assert max(sizes) <= 2 * (TTL + 3)


def test_rows_behind_the_watermark_are_left_out_and_counted():
    op = operator("groups")
    state = op.apply(op.empty, [_frame(op, [Row("a", 1, 100, False)])], 50_000).state
    applied = op.apply(state, [_frame(op, [Row("b", 1, 49, False), Row("b", 1, 50, False)])], BEGINNING)
    assert applied.late == 1
    assert op.finish(applied.emission).select("k", "n").rows() == [("b", 1)]
