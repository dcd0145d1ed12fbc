"""The changes of a table, before and after, against a model that sees one update at a time, in any cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import OFFSET, OP, OP_DELETE, OP_UPDATE_AFTER
from streamcore.state.runs import HASH
from streamcore.tables.declaration import retractions_of

COLUMNS = pl.Schema({"id": pl.String, "v": pl.Float64, "tags": pl.List(pl.String)})
OPERATOR = retractions_of(("id",), COLUMNS, "op", "number")
Values = tuple[str | None, float | None, tuple[str, ...] | None]
Update = tuple[Values, bool]
VALUES = st.tuples(
    st.sampled_from(["a", "b", None]),
    st.sampled_from([None, 1.0, 2.0, float("inf")]),
    st.sampled_from([None, (), ("x",)]),
)
UPDATES = st.lists(st.tuples(VALUES, st.booleans()), max_size=40)
CUTS = st.lists(st.integers(0, 40), max_size=8)
Change = tuple[int, str, Values]


def run(updates: Sequence[Update], cuts: Sequence[int], again: int) -> list[Change]:
    """Number, op and row of each change; the state is read back at update *again*."""
    rows = [(*values[:2], None if values[2] is None else list(values[2])) for values, _ in updates]
    frame = pl.DataFrame(rows, schema=COLUMNS, orient="row").with_columns(
        pl.Series(OP, [OP_DELETE if gone else OP_UPDATE_AFTER for _, gone in updates], pl.UInt8),
        pl.Series(OFFSET, range(len(updates)), pl.Int64),
    )
    state, found = OPERATOR.empty, list[Change]()
    bounds = sorted({0, len(updates), *(min(cut, len(updates)) for cut in (*cuts, again))})
    for start, end in pairwise(bounds):
        if start == again:
            kept = [[run.drop(HASH) for run in runs] for runs in state.kept]
            state = replace(state, kept=OPERATOR.restored(kept))
        state, emission, _ = OPERATOR.apply(state, [frame[start:end]], 0)
        for id, v, tags, op, number, offset, _, _ in OPERATOR.finish(emission).iter_rows():
            assert number == offset < state.emitted
            found.append((number, op, (id, v, None if tags is None else tuple(tags))))
    shown = {
        (row[0], row[1], None if row[2] is None else tuple(row[2])) for row in OPERATOR.shown(state).rows()
    }
    assert shown == set(model(updates)[1].values())
    return found


def model(updates: Sequence[Update]) -> tuple[list[Change], dict[str | None, Values]]:
    table: dict[str | None, Values] = {}
    changes = list[Change]()
    for place, (row, gone) in enumerate(updates):
        old = table.pop(row[0], None)
        if not gone:
            table[row[0]] = row
        if gone and old is not None:
            changes.append((2 * place, "delete", old))
        elif not gone and old is None:
            changes.append((2 * place + 1, "insert", row))
        elif not gone and old != row:
            assert old is not None
            changes += [(2 * place, "update_before", old), (2 * place + 1, "update_after", row)]
    return changes, table


@settings(deadline=None, max_examples=150)
@given(updates=UPDATES, cuts=CUTS, again=st.integers(0, 40))
def test_each_change_takes_back_what_was_there_with_the_same_number_in_any_cut(updates, cuts, again):
    changes, table = model(updates)
    found = run(updates, cuts, again)
    assert found == changes
    left = Counter(row for _, op, row in found if op in ("insert", "update_after"))
    left.subtract(row for _, op, row in found if op in ("delete", "update_before"))
    assert {row: count for row, count in left.items() if count} == dict.fromkeys(table.values(), 1)
