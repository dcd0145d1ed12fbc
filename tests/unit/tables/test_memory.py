"""What leaves a table frees its memory: many keys that come and go take no more than those that are there."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from streamcore.batch import OFFSET, OP, OP_DELETE, OP_UPDATE_AFTER
from streamcore.state.operator import Operator
from streamcore.tables.declaration import (
    latest_operator,
    regroup_operator,
    retractions_of,
    top_of_table_operator,
)
from streamcore.tables.join_side import SIDE, JoinShape
from streamcore.tables.table_join import TableJoin

COLUMNS = pl.Schema({"id": pl.Int64, "group": pl.Int64})
COUNT = {"n": "count(*)"}
OPERATORS: dict[str, Callable[[], Operator]] = {
    "latest": lambda: latest_operator(("id",), COLUMNS),
    "aggregates": lambda: regroup_operator(("group",), COUNT, COLUMNS, of=("id",)),
    "best": lambda: top_of_table_operator(("group",), "id", COLUMNS, of=("id",), n=2),
    "retractions": lambda: retractions_of(("id",), COLUMNS, "op", "number"),
    "join": lambda: TableJoin(JoinShape(pl.Schema({"x": pl.Int64}), COLUMNS, {"x": "id"}, None), outer=False),
}
BATCH, ALIVE, BATCHES = 50, 4, 120


def batch(op: Operator, number: int, done: int) -> pl.DataFrame:
    """*BATCH* keys that no other batch has, put or deleted."""
    ids = list(range(number * BATCH, (number + 1) * BATCH))
    given: dict[str, list[int | bool]] = {"id": ids, "group": [id // 10 for id in ids]}
    given |= {name: ids for name in op.no_rows.columns if name.startswith("_") and name not in (OP, OFFSET)}
    given |= {OP: [done] * BATCH, OFFSET: ids}
    if SIDE in op.no_rows.columns:
        given[SIDE] = [True] * BATCH
    columns = {name: given.get(name, [None] * BATCH) for name in op.no_rows.columns}
    return pl.DataFrame(columns, schema=op.no_rows.schema)


@pytest.mark.parametrize("name", OPERATORS)
def test_keys_that_come_and_go_take_as_much_as_those_that_are_there(name):
    op = OPERATORS[name]()
    state, sizes = op.empty, []
    for number in range(BATCHES):
        state = op.apply(state, [batch(op, number, OP_UPDATE_AFTER)], 0).state
        if number >= ALIVE:
            state = op.apply(state, [batch(op, number - ALIVE, OP_DELETE)], 0).state
        sizes.append(len(state))
    kinds = len(op.empty.kept)
    assert max(sizes) <= 3 * kinds * BATCH * (ALIVE + 1)
    for number in range(BATCHES - ALIVE, BATCHES):
        state = op.apply(state, [batch(op, number, OP_DELETE)], 0).state
    assert op.shown(state).height == 0
    assert len(state) <= kinds * BATCH * ALIVE
