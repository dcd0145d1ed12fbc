"""Joins of two tables against a model that sees one row at a time, and their updates in any cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import OFFSET, OP, OP_DELETE, OP_UPDATE_AFTER
from streamcore.joined import How
from streamcore.passage import union
from streamcore.tables.join_side import JoinShape, JoinSide
from streamcore.tables.tables_join import TablesJoin
from tests.property.test_tables_law import CUTS, applied, table_of

LEFT = pl.Schema({"id": pl.Int32, "name": pl.String, "v": pl.Int64})
RIGHT = pl.Schema({"of": pl.Int64, "name": pl.String, "w": pl.Int64})
SHAPE = JoinShape(LEFT, RIGHT, {"id": "of", "name": "name"}, None)
JOINS = {how: TablesJoin(SHAPE, how) for how in get_args(How) if how != "right"}
Row = tuple[bool, Any, Any, int]
"""Right, the key, and the value; a row is deleted when it is 0."""
ROWS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0, 1, None]), st.sampled_from(["a", None]), st.integers(0, 3)),
    max_size=40,
)


def frame_of(op: TablesJoin, rows: Sequence[Row]) -> pl.DataFrame:
    parts = []
    for side, columns in ((False, LEFT), (True, RIGHT)):
        mine = [(offset, row) for offset, row in enumerate(rows) if row[0] == side]
        frame = pl.DataFrame([row[1:] for _, row in mine], schema=columns, orient="row").with_columns(
            pl.Series(OFFSET, [offset for offset, _ in mine], pl.Int64),
            pl.lit(0, pl.UInt32).alias("_sub"),
            pl.Series(OP, [OP_UPDATE_AFTER if row[3] else OP_DELETE for _, row in mine], pl.UInt8),
        )
        parts.append(JoinSide(SHAPE, side, op.keeps[side]).apply(frame, "side").frame)
    return op.prepare(union(parts), "join").rows


def model(how: str, rows: Sequence[Row]) -> Mapping[tuple[Any, ...], tuple[Any, ...]]:
    """Key to the other columns: v, of, w."""
    sides: tuple[dict[tuple[Any, ...], int], ...] = ({}, {})
    for right, id, name, value in rows:
        sides[right].pop((id, name), None)
        if value:
            sides[right][id, name] = value
    left, right = (set(side) for side in sides)
    keys = {"inner": left & right, "left": left, "full": left | right}[how]
    return {key: (sides[0].get(key), key[0] if key in right else None, sides[1].get(key)) for key in keys}


@pytest.mark.parametrize("how", JOINS)
@settings(deadline=None, max_examples=100)
@given(rows=ROWS, cuts=CUTS, others=CUTS, again=st.integers(0, 41), data=st.data())
def test_updates_of_any_two_cuts_that_meet_at_a_number_give_the_table(how, rows, cuts, others, again, data):
    op = JOINS[how]
    frame = frame_of(op, rows)
    (some, end), (more, same_end) = applied(op, frame, cuts, again), applied(op, frame, others)
    assert (end, same_end) == (len(rows), len(rows))
    number = data.draw(st.integers(0, end))
    mixed = [u for u in some if u[0] < number] + [u for u in more if u[0] >= number]
    assert table_of(mixed) == table_of(some) == model(how, rows)


def test_keys_that_are_deleted_on_both_sides_are_forgotten() -> None:
    op, state = JOINS["full"], JOINS["full"].empty
    for start in range(0, 10_000, 100):
        rows = [(bool(i % 2), start + i // 2, "a", 1) for i in range(100)]
        state, _, _ = op.apply(state, [frame_of(op, rows)], 0)
        state, _, _ = op.apply(state, [frame_of(op, [(*row[:3], 0) for row in rows])], 0)
    assert len(state) <= 400


def test_definitions_differ_where_results_do() -> None:
    assert len({op.definition for op in JOINS.values()}) == len(JOINS)
