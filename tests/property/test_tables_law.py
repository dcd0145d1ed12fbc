"""Tables against a model that sees one row at a time, and their updates in any cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import HIDDEN, OFFSET, OP, OP_DELETE, OP_UPDATE_AFTER
from streamcore.event_time import END
from streamcore.state.operator import Operator
from streamcore.state.runs import HASH
from streamcore.tables.declaration import (
    group_operator,
    latest_operator,
    regroup_operator,
    top_of_table_operator,
    top_operator,
)

COLUMNS = pl.Schema({"id": pl.Int64, "group": pl.String, "v": pl.Int64})
AGGREGATES = {"n": "count(*)", "total": "cast(sum(v) as bigint)", "most": "max(v)", "newest": "last(v)"}
Row = tuple[int, str | None, int | None, bool]
"""id, group, v, and whether the row of this id is deleted."""
ROWS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["a", "b", "ä|b", None]),
        st.one_of(st.none(), st.integers(-9, 9)),
        st.booleans(),
    ),
    max_size=40,
)
CUTS = st.lists(st.integers(0, 40), max_size=6)
Update = tuple[int, tuple[Any, ...], tuple[Any, ...] | None]
"""Number, key, and the row's other columns; None where it is deleted."""

OPERATORS: dict[str, Operator] = {
    "rows": group_operator(("group",), AGGREGATES, COLUMNS),
    "a table's rows, which may move": regroup_operator(("group",), AGGREGATES, COLUMNS, of=("id",)),
    "the best row": top_operator(("group",), "v desc", COLUMNS, n=1),
    "the best rows": top_operator(("group",), "v, id DESC", COLUMNS, n=3),
    "the best rows of a table, which move": top_of_table_operator(
        ("group",), "v, id", COLUMNS, of=("id",), n=2
    ),
    "the best row of a table": top_of_table_operator(("group",), "v desc", COLUMNS, of=("id", "group"), n=1),
    "the latest row": latest_operator(("group",), COLUMNS),
    "a table's rows, which stay": regroup_operator(("group",), AGGREGATES, COLUMNS, of=("id", "group")),
}


def frame_of(op: Operator, rows: Sequence[Row]) -> pl.DataFrame:
    ops = [OP_DELETE if row[3] else OP_UPDATE_AFTER for row in rows]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}
    frame = pl.DataFrame({**columns, OP: ops, OFFSET: range(len(rows))}, schema={**COLUMNS, **_HIDDEN})
    return frame.select(op.no_rows.columns)


_HIDDEN = {OP: pl.UInt8, OFFSET: pl.Int64}


def run(op: Operator, rows: Sequence[Row], cuts: Sequence[int], again: int = 41) -> tuple[list[Update], int]:
    """The updates, and the number behind them; the state is written and read back at row *again*."""
    return applied(op, frame_of(op, rows), cuts, again)


def applied(
    op: Operator, frame: pl.DataFrame, cuts: Sequence[int], again: int = 41
) -> tuple[list[Update], int]:
    """:func:`run` of rows as they come to the log."""
    state, updates, size = op.empty, list[Update](), frame.height
    bounds = sorted({0, size, *(min(c, size) for c in (*cuts, again))})
    for start, end in pairwise(bounds):
        if start == again:
            kept = [[run.drop(HASH) for run in runs] for runs in state.kept]
            state = replace(state, kept=op.restored(kept))
        before = state.emitted
        state, emission, late = op.apply(state, [frame[start:end]], 0)
        found = _updates(op, emission)
        assert late == 0
        assert [n for n, _, _ in found] == sorted({n for n, _, _ in found})
        assert all(before <= n < state.emitted for n, _, _ in found)
        updates += found
    after, emission, _ = op.apply(state, [], END)
    assert not emission.height
    shown = op.shown(after)
    assert shown.schema == op.columns
    others = [name for name in shown.columns if name not in op.key]
    rows_shown = zip(shown.select(op.key).rows(), shown.select(others).rows(), strict=True)
    assert dict(rows_shown) == table_of(updates)
    return updates, state.emitted


def _updates(op: Operator, emission: pl.DataFrame) -> list[Update]:
    frame = op.finish(emission)
    keys = frame.select(op.key).rows()
    others = frame.drop(*op.key, *HIDDEN).rows()
    gone = (frame[OP] == OP_DELETE).to_list()
    return [
        (n, key, None if deleted else row)
        for n, key, row, deleted in zip(frame[OFFSET].to_list(), keys, others, gone, strict=True)
    ]


def table_of(updates: Sequence[Update]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    table: dict[tuple[Any, ...], tuple[Any, ...] | None] = {}
    for _, key, row in updates:
        table[key] = row
    return {key: row for key, row in table.items() if row is not None}


def model(name: str, rows: Sequence[Row]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The table as of all *rows*, by the newest row of each key; plain rows are all kept."""
    if "best" in name:
        return best(name, rows)
    if name == "the latest row":
        newest = {row[1]: row for row in rows}
        return {(group,): (row[0], row[2]) for group, row in newest.items() if not row[3]}
    latest: dict[Any, tuple[str | None, int | None]] = {}
    for number, (id, group, value, deleted) in enumerate(rows):
        key = {"rows": number, "a table's rows, which may move": id}.get(name, (id, group))
        latest.pop(key, None)  # what is updated is the newest
        if not deleted or name == "rows":
            latest[key] = (group, value)
    groups: dict[tuple[Any, ...], list[int | None]] = {}
    for group, value in latest.values():
        groups.setdefault((group,), []).append(value)
    return {key: _aggregates(values) for key, values in groups.items()}


def best(name: str, rows: Sequence[Row]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    if "table" in name:
        latest: dict[object, Row] = {}
        for row in rows:
            latest.pop(key := row[0] if "move" in name else row[:2], None)  # what changes is younger
            if not row[3]:
                latest[key] = row
        rows = [*latest.values()]
        if "move" in name:
            ordered = sorted(rows, key=lambda row: (row[2] is None, row[2] or 0, row[0]))
            groups_: dict[str | None, list[Row]] = {}
            for row in ordered:
                groups_.setdefault(row[1], []).append(row)
            return {(g, i + 1): (r[0], r[2]) for g, of in groups_.items() for i, r in enumerate(of[:2])}
        name = "the best row"
    groups: dict[str | None, list[Row]] = {}
    for row in rows:  # sorting is stable: of equal rows the first is better
        groups.setdefault(row[1], []).append(row)
    if name == "the best row":
        firsts = {g: min(of, key=lambda r: (r[2] is None, -(r[2] or 0))) for g, of in groups.items()}
        return {(g,): (row[0], row[2]) for g, row in firsts.items()}
    ranked = {g: sorted(of, key=lambda r: (r[2] is None, r[2] or 0, -r[0])) for g, of in groups.items()}
    return {(g, i + 1): (row[0], row[2]) for g, of in ranked.items() for i, row in enumerate(of[:3])}


def _aggregates(values: Sequence[int | None]) -> tuple[Any, ...]:
    known = [value for value in values if value is not None]
    return len(values), sum(known) if known else None, max(known, default=None), values[-1]


@pytest.mark.parametrize("name", OPERATORS)
@settings(deadline=None, max_examples=50)
@given(rows=ROWS, cuts=CUTS, again=st.integers(0, 41))
def test_a_table_is_what_the_rows_so_far_make_of_it(name, rows, cuts, again):
    updates, _ = run(OPERATORS[name], rows, cuts, again)
    assert table_of(updates) == model(name, rows)


@pytest.mark.parametrize("name", OPERATORS)
@settings(deadline=None, max_examples=50)
@given(rows=ROWS, cuts=CUTS, others=CUTS, data=st.data())
def test_updates_of_one_cut_up_to_a_number_and_of_another_from_it_on_give_the_same_table(
    name, rows, cuts, others, data
):
    (some, end), (again, same_end) = run(OPERATORS[name], rows, cuts), run(OPERATORS[name], rows, others)
    assert end == same_end
    number = data.draw(st.integers(0, end))
    mixed = [u for u in some if u[0] < number] + [u for u in again if u[0] >= number]
    assert table_of(mixed) == model(name, rows)
