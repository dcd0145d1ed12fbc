"""Tables with a time to live against a model that sees one row at a time, however partitions are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import HIDDEN, OFFSET, OP, OP_DELETE, OP_INSERT
from streamcore.event_time import BEGINNING, END
from streamcore.state.operator import UPSTREAM, State
from streamcore.state.runs import HASH
from streamcore.tables.declaration import Lives, group_operator, latest_operator, top_operator
from streamcore.tables.expiring import LivingTable

COLUMNS = pl.Schema({"k": pl.String, "v": pl.Int64, "at": pl.Int64})
TTL = 20
"""Milliseconds, as are the times."""
LATENESS = 8
LIVES = Lives("s", "at", TTL * 1_000)
AGGREGATES = {"n": "count(*)", "most": "max(v)", "all": "list(v)", "newest": "last(v)"}


class Row(NamedTuple):
    partition: int
    k: str | None
    v: int | None
    at: int
    deleted: bool


Rows = Sequence[Row]
Table = dict[tuple[Any, ...], tuple[Any, ...]]
_ROW = st.builds(
    Row,
    st.integers(0, 1),
    st.sampled_from(["a", "b", None]),
    st.none() | st.integers(0, 5),
    st.integers(0, 15),
    st.booleans(),
)
ROWS = st.lists(_ROW, min_size=12, max_size=40)  # with few rows little ends
CUTS = st.lists(st.integers(0, 40), max_size=12)


def of_groups(life: Rows) -> Table:
    values = [row.v for row in life]
    known = [value for value in values if value is not None]
    return {(life[0].k,): (len(life), max(known, default=None), values, values[-1])}


def of_best(life: Rows) -> Table:
    ranked = sorted(life, key=lambda row: (row.v is None, -(row.v or 0)))
    return {(row.k, rank): (row.v, row.at) for rank, row in enumerate(ranked[:2], start=1)}


def of_latest(life: Rows) -> Table:
    return {} if life[-1].deleted else {(life[-1].k,): (life[-1].v, life[-1].at)}


KINDS: dict[str, tuple[Any, Callable[[Rows], Table]]] = {
    "groups": (group_operator(("k",), AGGREGATES, COLUMNS, lives=LIVES), of_groups),
    "best": (top_operator(("k",), "v desc", COLUMNS, n=2, lives=LIVES), of_best),
    "latest": (latest_operator(("k",), COLUMNS, LIVES), of_latest),
}


def in_time(rows: Rows) -> list[Row]:
    """*rows* at the times at which they come (steps, some long, some back), without those that are late.

    Each partition has times of its own, so they are read as unevenly as can be.
    """
    on_time, now, newest = list[Row](), [0, 0], [0, 0]
    for row in rows:
        step = row.at if row.at < 9 else TTL + row.at - 9 if row.at < 12 else -LATENESS
        at = now[row.partition] + (step if row.at < 14 else 3 * TTL)
        now[row.partition] = at
        if at >= newest[row.partition] - LATENESS:
            on_time.append(row._replace(at=at))
            newest[row.partition] = max(newest[row.partition], at)
    return on_time


def watermark_of(rows: Rows) -> int:
    """That of the partition which is behind; in microseconds."""
    newest = [max((row.at for row in rows if row.partition == own), default=None) for own in (0, 1)]
    known = [at for at in newest if at is not None]
    return (min(known) - LATENESS) * 1_000 if len(known) == 2 else BEGINNING


def records(rows: Rows, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """Where records begin and end: each is of one partition."""
    changes = [len(list(own)) for _, own in groupby(rows, key=lambda row: row.partition)]
    starts = [sum(changes[:i]) for i in range(len(changes))]
    return [*pairwise(sorted({0, len(rows), *starts, *(min(cut, len(rows)) for cut in cuts)}))]


def run(op: LivingTable, kind: str, rows: Rows, cuts: Sequence[int], again: int) -> tuple[Table, State]:
    """What all updates make of a table, each piece between *cuts* a record; read back at row *again*."""
    state, table = op.empty, Table()
    for start, end in records(rows, [*cuts, again]):
        if start == again:
            state = replace(
                state, kept=op.restored([[run.drop(HASH) for run in runs] for runs in state.kept])
            )
        before = state.emitted
        state, emission, late = op.apply(
            state, [_frame(op, rows[start:end], start)], watermark_of(rows[:end])
        )
        frame = op.finish(emission)
        assert late == 0
        assert frame[OFFSET].to_list() == list(range(before, state.emitted))
        _update(table, op, frame)
        assert table == model(kind, rows[:end])
        assert _shown(op, state) == table
    after = op.apply(state, [], END)
    assert not after.emission.height
    assert _shown(op, after.state) == table
    return table, after.state


def _frame(op: LivingTable, rows: Rows, first: int) -> pl.DataFrame:
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    ops = [OP_DELETE if row.deleted else OP_INSERT for row in rows]
    offsets = range(first, first + len(rows))
    frame = pl.DataFrame(
        {**columns, OP: ops, OFFSET: offsets}, schema={**COLUMNS, OP: pl.UInt8, OFFSET: pl.Int64}
    )
    logged = op.prepare(frame, "stage").rows
    if UPSTREAM not in op.no_rows.columns:
        return logged
    return logged.with_columns(pl.Series(UPSTREAM, [row.partition for row in rows], pl.Int64))


def _update(table: Table, op: LivingTable, frame: pl.DataFrame) -> None:
    others = frame.drop(*op.key, *HIDDEN).rows()
    for key, row, done in zip(frame.select(op.key).rows(), others, frame[OP].to_list(), strict=True):
        was = table.pop(key, None)
        if done != OP_DELETE:
            table[key] = row
        else:
            assert was is not None


def _shown(op: LivingTable, state: State) -> Table:
    shown = op.shown(state)
    assert shown.schema == op.columns
    return dict(zip(shown.select(op.key).rows(), shown.drop(op.key).rows(), strict=True))


def model(kind: str, rows: Rows) -> Table:
    """The newest life of each key, unless the watermark has passed its end. Whichever partition came first.

    Which row is the latest says the log.
    """
    step = TTL * 1_000 // 16
    limit = (watermark_of(rows) - TTL * 1_000) // step * step
    table = Table()
    for key in {row.k for row in rows}:
        own = [row for row in rows if row.k == key]
        if kind == "latest":
            lives = [own]
        else:
            lives = lives_of([row for partition in (1, 0) for row in own if row.partition == partition])
        newest = max(lives, key=lambda life: max(row.at for row in life))
        if max(row.at for row in newest) * 1_000 >= limit:
            in_order = newest if kind == "latest" else sorted(newest, key=lambda row: (row.at, row.partition))
            table |= KINDS[kind][1](in_order)
    return table


def lives_of(rows: Rows) -> list[list[Row]]:
    """One row at a time: it joins the lives that it is near to, and so makes them one."""
    lives: list[list[Row]] = []
    for row in rows:
        near = [life for life in lives if any(abs(row.at - other.at) <= TTL for other in life)]
        lives = [life for life in lives if life not in near] + [[*(r for life in near for r in life), row]]
    return lives


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, cuts=CUTS, again=st.integers(0, 40))
def test_a_key_lives_as_long_as_its_rows_say_in_any_cut_and_interleaving(kind, rows, cuts, again):
    run(KINDS[kind][0], kind, in_time(rows), cuts, again)


@settings(deadline=None, max_examples=25)
@given(rows=ROWS, data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_any_interleaving_of_the_partitions_ends_in_the_same_table(kind, rows, data):
    """For the latest row only where all rows of a key lie in one partition: else the log says which it is."""
    if kind == "latest":
        rows = [row._replace(partition=int(row.k == "a")) for row in rows]
    rows = in_time(rows)
    waiting = [[row for row in rows if row.partition == own] for own in (0, 1)]
    mixed = list[Row]()
    for own in data.draw(st.permutations([row.partition for row in rows])):
        mixed.append(waiting[own].pop(0))
    cuts = data.draw(CUTS)
    assert run(KINDS[kind][0], kind, rows, cuts, -1)[0] == run(KINDS[kind][0], kind, mixed, [], -1)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_left_is_kept_no_more(kind):
    op, sizes = KINDS[kind][0], []
    state = op.empty
    for number in range(90):  # new keys all the time, of which 21 or so live
        frame = _frame(op, [Row(0, f"key {number}", 1, number, False)], number)
        state = op.apply(state, [frame], number * 1_000).state
        sizes.append(len(state))
    assert max(sizes) <= 2 * (TTL + 3)


@pytest.mark.parametrize("kind", ["groups", "best"])
def test_a_life_goes_on_although_its_rows_are_not_kept(kind):
    """Ten thousand rows that are close together, of which a table of the best two keeps few."""
    op, rows = KINDS[kind][0], [Row(0, "a", -at, at, False) for at in range(0, 10_000, TTL)]
    state = op.empty
    for place in range(0, len(rows), 50):
        state = op.apply(state, [_frame(op, rows[place : place + 50], place)], BEGINNING).state
    assert _shown(op, state) == KINDS[kind][1](rows)
    assert len(state) <= 12


def test_rows_of_a_life_that_is_over_are_left_out_and_counted():
    """Only those of an idle partition can come so late."""
    op = KINDS["groups"][0]
    state = op.apply(op.empty, [_frame(op, [Row(0, "a", 1, 100, False)], 0)], 80_000).state
    late = [Row(1, "b", 1, 59, False), Row(1, "b", 1, 60, False)]
    applied = op.apply(state, [_frame(op, late, 1)], BEGINNING)
    assert applied.late == 1
    assert op.finish(applied.emission).select("k", "n").rows() == [("b", 1)]
