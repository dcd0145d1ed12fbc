"""Joins of a table with another by that one's key against a model that sees one row at a time.

In any cut, and with partitions that tell in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import OFFSET, OP, OP_DELETE, OP_UPDATE_AFTER
from streamcore.passage import union
from streamcore.state.operator import Operator
from streamcore.state.runs import HASH
from streamcore.tables.foreign_join import ForeignJoin, NewestPair
from streamcore.tables.join_side import JoinShape, JoinSide
from streamcore.tables.moves import VERSION, Moves
from tests.property.test_tables_law import CUTS, applied, table_of

ORDERS = pl.Schema({"id": pl.Int64, "shop": pl.String, "of": pl.Int32, "v": pl.Int64})
CUSTOMERS = pl.Schema({"of": pl.Int64, "shop": pl.String, "w": pl.Int64})
MOVES = Moves(("id",), ("of", "shop"), ORDERS)
SHAPE = JoinShape(MOVES.columns, CUSTOMERS, {"of": "of", "shop": "shop"}, None)
JOINS = {how: ForeignJoin(SHAPE, ("id",), how == "left") for how in ("inner", "left")}
Row = tuple[bool, int, Any, Any, int]
"""Right, id (of an order), the customer's key (of, shop), and the value: a row is deleted when it is 0."""
KEYS = [(0, "a"), (0, "a"), (0, "a"), (1, "a"), (0, "b"), (None, "a"), (0, None)]
"""Customers' keys: often the same, so that orders meet."""
ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 3), st.sampled_from(KEYS), st.sampled_from([1, 2, 3, 0])).map(
        lambda row: (*row[:2], *row[2], row[3])
    ),
    max_size=40,
)
Table = Mapping[tuple[Any, ...], tuple[Any, ...]]


def frame_of(rows: Sequence[Sequence[Any]], columns: pl.Schema) -> pl.DataFrame:
    """*rows* as updates; the last value says whether the row is there."""
    return pl.DataFrame(list(rows), schema=columns, orient="row").with_columns(
        pl.Series(OFFSET, range(len(rows)), pl.Int64),
        pl.lit(0, pl.UInt32).alias("_sub"),
        pl.Series(OP, [OP_UPDATE_AFTER if row[-1] else OP_DELETE for row in rows], pl.UInt8),
    )


def model(how: str, rows: Sequence[Row]) -> Table:
    """Key to the other columns: shop, of, v, w."""
    orders: dict[int, tuple[Any, ...]] = {}
    customers: dict[tuple[Any, ...], int] = {}
    for right, id, of, shop, value in rows:
        table, key, row = (customers, (of, shop), value) if right else (orders, id, (shop, of, value))
        table.pop(key, None)
        if value:
            table[key] = row
    found = {}
    for id, (shop, of, value) in orders.items():
        there = None if shop is None or of is None else customers.get((of, shop))
        if there is not None or how == "left":
            found[id,] = (shop, of, value, there)
    return found


def moved(rows: Sequence[Row], cuts: Sequence[int]) -> list[tuple[int, pl.DataFrame]]:
    """The orders of *rows* as they come out of :class:`Moves` in these *cuts*: which row made what."""
    places = [place for place, row in enumerate(rows) if not row[0]]
    frame = frame_of([(row[1], row[3], row[2], row[4]) for row in rows if not row[0]], ORDERS)
    state, made = MOVES.empty, []
    bounds = sorted({0, frame.height, *(min(cut, frame.height) for cut in cuts)})
    for start, end in pairwise(bounds):
        kept = [[run.drop(HASH) for run in runs] for runs in state.kept]
        state = state.__class__(MOVES.restored(kept), state.watermark, state.emitted, state.arrived)
        rows_of = MOVES.prepare(frame[start:end], "moves").rows
        state, emission, _ = MOVES.apply(state, [rows_of], 0)
        made.append(MOVES.finish(emission))
    whole = pl.concat(made) if made else MOVES.nothing_out
    return [(place, whole.filter(pl.col(OFFSET) // 2 == n)) for n, place in enumerate(places)]


def joined(op: ForeignJoin, rows: Sequence[Row], cuts: Sequence[int] = ()) -> pl.DataFrame:
    """What *rows* put into the join's log, in their order; column ``row`` says which of them did."""
    orders = dict(moved(rows, cuts))
    parts = []
    for place, row in enumerate(rows):
        frame = orders[place] if not row[0] else frame_of([(row[2], row[3], row[4])], CUSTOMERS)
        side = JoinSide(op.shape, row[0], op.keeps[row[0]]).apply(frame, "side").frame
        if side.height:
            parts.append(side.with_columns(pl.lit(place, pl.Int64).alias("row")))
    return pl.concat(parts) if parts else op.no_rows.with_columns(pl.lit(0, pl.Int64).alias("row"))


@settings(deadline=None, max_examples=100)
@given(rows=ROWS, cuts=CUTS, others=CUTS)
def test_what_moves_is_the_same_in_any_cut(rows, cuts, others):
    some, more = moved(rows, cuts), moved(rows, others)
    assert all(a[1].equals(b[1]) for a, b in zip(some, more, strict=True))
    table: dict[Any, Any] = {}
    for _, frame in some:
        for row in frame.sort(OFFSET).to_dicts():
            key = (row["id"], row["of"], row["shop"])
            if row[OP] == OP_DELETE:
                assert table.pop(key)["v"], "what leaves was there"
            else:
                assert row[VERSION] == row[OFFSET]
                table[key] = row
    assert {key: row["v"] for key, row in table.items()} == {
        (id, of, shop): v for (id,), (shop, of, v, _) in model("left", rows).items()
    }


@pytest.mark.parametrize("how", JOINS)
@settings(deadline=None, max_examples=100)
@given(rows=ROWS, cuts=CUTS, others=CUTS, again=st.integers(0, 60), data=st.data())
def test_updates_of_any_two_cuts_that_meet_at_a_number_give_the_pairs(how, rows, cuts, others, again, data):
    op = JOINS[how]
    frame = op.prepare(joined(op, rows), "join").rows
    (some, end), (more, same_end) = applied(op, frame, cuts, again), applied(op, frame, others)
    assert end == same_end
    each, _ = applied(op, frame, range(frame.height))
    known = {number: (key, row) for number, key, row in each}
    assert all(known[number] == (key, row) for number, key, row in (*some, *more))
    number = data.draw(st.integers(0, end))
    mixed = [u for u in some if u[0] < number] + [u for u in more if u[0] >= number]
    pairs = {key[0]: row for key, row in table_of(mixed).items()}
    assert table_of(mixed) == table_of(each)
    assert {(id,): (row[0], row[1]) for id, row in unversioned(pairs).items()} == {
        key: (row[2], row[3]) for key, row in model(how, rows).items()
    }


def unversioned(pairs: Mapping[Any, tuple[Any, ...]]) -> dict[Any, tuple[Any, ...]]:
    """*pairs* without their versions: v, w."""
    names = [name for name in JOINS["left"].columns if name not in JOINS["left"].key]
    place = names.index(VERSION)
    return {id: (*row[:place], *row[place + 1 :]) for id, row in pairs.items()}


@pytest.mark.parametrize("how", JOINS)
@settings(deadline=None, max_examples=100)
@given(rows=ROWS, cuts=CUTS, data=st.data())
def test_partitions_that_tell_in_any_order_give_the_table(how, rows, cuts, data):
    """Each foreign key is a partition of its own, whose rows of either side are there in any interleaving."""
    op = JOINS[how]
    whole = joined(op, rows, cuts)
    parts = whole.partition_by(op.by, maintain_order=True)
    partitions = [_interleaved(data, part) for part in parts]
    told = [_told(op, part.drop("row"), data.draw(CUTS)) for part in partitions]
    order = data.draw(st.permutations([place for place, frames in enumerate(told) for _ in frames]))
    queues = [iter(frames) for frames in told]
    newest = NewestPair.of_pairs(op)
    frame = pl.concat([next(queues[place]) for place in order] or [op.nothing_out])
    updates, _ = applied(newest, newest.prepare(frame, "newest").rows, data.draw(CUTS))
    assert table_of(updates) == model(how, rows)


def _interleaved(data: st.DataObject, part: pl.DataFrame) -> pl.DataFrame:
    """The rows of *part*, those of each side in their order."""
    sides = [part.filter(pl.col("_side") == side) for side in (False, True)]
    right = data.draw(st.permutations([False] * sides[0].height + [True] * sides[1].height))
    frames = [iter(side.iter_slices(1)) for side in sides]
    return pl.concat([next(frames[side]) for side in right])


def _told(op: Operator, frame: pl.DataFrame, cuts: Sequence[int]) -> list[pl.DataFrame]:
    """What comes out of a partition, by the calls that it came in."""
    state, out, rows = op.empty, [], op.prepare(frame, "join").rows
    for start, end in pairwise(sorted({0, rows.height, *(min(cut, rows.height) for cut in cuts)})):
        state, emission, _ = op.apply(state, [rows[start:end]], 0)
        out.append(op.finish(emission))
    return out


def test_rows_that_are_deleted_are_forgotten() -> None:
    op, state, moves = JOINS["left"], JOINS["left"].empty, MOVES.empty
    for start in range(0, 5_000, 100):
        for value in (1, 0):
            orders = frame_of([(i, "a", i % 7, value) for i in range(start, start + 100)], ORDERS)
            moves, emission, _ = MOVES.apply(moves, [MOVES.prepare(orders, "moves").rows], 0)
            left = JoinSide(SHAPE, False, True).apply(MOVES.finish(emission), "left").frame
            customers = frame_of([(start + i, "a", value) for i in range(100)], CUSTOMERS)
            right = JoinSide(SHAPE, True).apply(customers, "right").frame
            state, _, _ = op.apply(state, [op.prepare(union([left, right]), "join").rows], 0)
    assert len(state) <= 800
    assert len(moves) <= 400


def test_definitions_differ_where_results_do() -> None:
    others = [ForeignJoin(SHAPE, ("id", "v"), True), MOVES, Moves(("id",), ("of",), ORDERS)]
    assert len({op.definition for op in (*JOINS.values(), *others)}) == 5
