"""As-of joins against a model that sees all rows at once, and against DuckDB, in any cut and order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import HIDDEN
from streamcore.event_time import BEGINNING, END
from streamcore.tables.as_of_join import EVER, AsOfJoin
from tests.property.test_joins_law import MS, Row, frame_of, run, shape, watermarks

OLDEST = {"ever": EVER, "5 ms": 5 * MS, "the same instant": 0}
JOINS = {
    (oldest, how): AsOfJoin(shape(True), (-OLDEST[oldest], 0), None, how == "left")
    for oldest in OLDEST
    for how in ("inner", "left")
}
ROWS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([0, 0, 0, 1, None]),
        st.just("a"),
        st.integers(0, 15),
        st.integers(0, 99),
    ).map(Row),
    max_size=30,
)
"""Few keys and times, so that rows hide one another."""
CUTS = st.one_of(st.just(range(31)), st.lists(st.integers(0, 30), max_size=10))
DUCKDB = duckdb.connect(config={"threads": 1})


def model(op: AsOfJoin, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Each left row in the order of time with the newest right one; of several, the last of the log."""
    assert op.within is not None
    found: list[tuple[Any, ...]] = []
    for right, id, name, at, _ in sorted(rows, key=lambda row: row[3]):
        theirs = [
            (row[3], place, row)
            for place, row in enumerate(rows)
            if row[0] and None not in (id, name) and row[1:3] == (id, name)
        ]
        seen = [other for other in theirs if op.within[0] <= (other[0] - at) * MS <= 0]
        if not right and (seen or op.outer):
            row = max(seen)[2] if seen else (None,) * 5
            found.append((len(found), id, name, at, row[1], row[3], row[4]))
    return found


@pytest.mark.parametrize("name", JOINS, ids=str)
@settings(deadline=None, max_examples=100)
@given(rows=ROWS, cuts=CUTS, again=st.integers(0, 31), lateness=st.integers(0, 5))
def test_each_row_gets_the_newest_one_before_it_in_any_cut(name, rows, cuts, again, lateness):
    op = JOINS[name]
    found, state = run(op, rows, watermarks(rows, lateness), cuts, again)
    assert found == model(op, rows)
    assert len(state) == 0


@pytest.mark.parametrize("how", ["inner", "left"])
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, data=st.data(), lateness=st.integers(0, 5))
def test_what_duckdb_says_comes_out_in_whatever_order_the_rows_come(how, rows, data, lateness):
    """Of right rows at the same time it is not said which counts: so each has a time of its own."""
    once = {(row[1], row[2], row[3]) if row[0] else (n,): row for n, row in enumerate(rows)}
    mine = data.draw(st.permutations(list(once.values())))
    found, _ = run(JOINS["ever", how], mine, watermarks(mine, lateness), range(0, len(mine), 3))
    l_rows, r_rows = (values(mine, right=right) for right in (False, True))
    expected = DUCKDB.sql(
        f"with l(id, name, t, v) as ({l_rows}), r(id, name, t, v) as ({r_rows}) "
        "select l.id, l.name, l.t, r.id, r.t, r.v "
        f"from l asof {how} join r on l.id = r.id and l.name = r.name and l.t >= r.t where l.t is not null"
    ).fetchall()
    assert sorted((row[1:] for row in found), key=repr) == sorted(expected, key=repr)


def values(rows: Sequence[Row], *, right: bool) -> str:
    """The rows of one side as a query; a row of nulls gives the types."""
    mine = [row[1:] for row in rows if row[0] == right]
    texts = [f"({', '.join('null' if value is None else repr(value) for value in row)})" for row in mine]
    return f"values {', '.join(['(null::bigint, null::varchar, null::bigint, null::bigint)', *texts])}"


def test_of_a_keys_rows_the_newest_one_is_kept_and_those_to_come() -> None:
    op = JOINS["ever", "inner"]
    state, sizes = op.empty, list[int]()
    for start in range(0, 20_000, 200):
        rows = [Row((True, i % 7, "a", start + i, 1)) for i in range(200)]
        state, _, _ = op.apply(state, [frame_of(op, rows)], (start + 190) * MS)
        sizes.append(len(state))
    assert max(sizes) <= 1_000
    asked = [Row((False, i, "a", 30_000, 0)) for i in range(7)]
    state, emission, _ = op.apply(state, [frame_of(op, asked)], END)
    assert emission.height == 7


def test_the_newest_one_is_kept_and_not_the_one_that_came_last() -> None:
    op = JOINS["ever", "inner"]
    olds = [Row((True, 1, "a", at, at)) for at in (10, 8, 9, 7)]
    state, _, _ = op.apply(op.empty, [frame_of(op, olds)], 0)
    others = [Row((True, 2, "a", at, at)) for at in (20, 21, 22, 23)]
    state, _, _ = op.apply(state, [frame_of(op, others)], 20 * MS)
    assert len(state) == 5
    _, emission, _ = op.apply(state, [frame_of(op, [Row((False, 1, "a", 20, 0))])], END)
    assert op.finish(emission)["v"].to_list() == [10]


def test_with_a_bound_old_rows_are_forgotten() -> None:
    op = JOINS["5 ms", "left"]
    state, sizes = op.empty, list[int]()
    for start in range(0, 20_000, 200):
        rows = [Row((i % 2 == 0, start + i, "a", start + i, 1)) for i in range(200)]
        state, _, _ = op.apply(state, [frame_of(op, rows)], (start + 190) * MS)
        sizes.append(len(state))
    assert max(sizes) <= 1_000


def test_a_row_waits_until_the_watermark_has_passed_it() -> None:
    op = JOINS["ever", "left"]
    state, emission, _ = op.apply(op.empty, [frame_of(op, [Row((False, 1, "a", 10, 0))])], 10 * MS)
    assert not emission.height
    state, emission, _ = op.apply(state, [frame_of(op, [Row((True, 1, "a", 10, 7))])], 10 * MS)
    assert not emission.height
    state, emission, late = op.apply(state, [], 10 * MS + 1)
    assert (op.finish(emission).drop(HIDDEN)["v"].to_list(), late) == ([7], 0)
    state, emission, late = op.apply(state, [frame_of(op, [Row((False, 1, "a", 10, 0))])], BEGINNING)
    assert (emission.height, late) == (0, 1)


def test_definitions_differ_where_results_do() -> None:
    texts = [op.definition for op in JOINS.values()]
    assert len(set(texts)) == len(texts)
    assert replace(JOINS["ever", "left"], outer=False).definition == JOINS["ever", "inner"].definition
