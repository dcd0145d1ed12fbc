"""Laws of aggregates: no cut and no tree of merges shows in the result, and the result is DuckDB's."""

from __future__ import annotations

import datetime as dt
import io
import math
from collections.abc import Sequence
from decimal import Decimal
from itertools import permutations

import duckdb
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from streamcore.aggregates.aggregation import Aggregation

COLUMNS = pl.Schema(
    {
        "k": pl.String,
        "i": pl.Int64,
        "u": pl.UInt64,
        "s": pl.Int32,
        "x": pl.Float64,
        "y": pl.Float64,
        "t": pl.String,
        "d": pl.Datetime("us"),
        "b": pl.Boolean,
        "m": pl.Decimal(20, 2),
    }
)
CALLS = [
    "count(*)", "count(1)", "count(t)", "sum(i)", "sum(u)", "sum(s)", "sum(m)", "sum(b)", "sum(x)", "avg(i)",
    "avg(x)", "avg(m)", "min(i)", "max(u)", "min(x)", "max(x)", "min(t)", "max(t)", "min(d)", "max(d)",
    "min(m)", "max(b)", "stddev(y)", "stddev_pop(s)", "variance(s)", "var_samp(y)", "var_pop(y)", "first(i)",
    "first(t)", "last(x)", "last(d)", "any_value(t)", "any_value(m)", "bool_and(b)", "bool_or(s > 0)",
    "count(distinct t)", "count(distinct x)", "count(distinct i)", "count(distinct d)", "list(t)",
    "array_agg(i)", "list(x)", "max(i, 2)", "min(t, 2)", "max(x, 3)", "min(x, 2)", "min(d, 1)", "max(m, 2)",
    "max_by(t, t)", "arg_min(d, d, 2)", "arg_max(i, i, 3)",
    "sum(case when s > 0 then 2 else -1 end)", "max(length(t))", "list(s / 2)",
]  # fmt: skip
SKETCHES = [
    "approx_count_distinct(t)", "approx_count_distinct(x, 4)", "approx_count_distinct(m)", "median(x)",
    "quantile(u, 0.9)", "quantile(s, 0)", "approx_count_distinct(d)", "quantile(x, 0.7)",
]  # fmt: skip
FILTERS = ["", " filter (where s > 0)", " filter (where b)", " filter (where t is null or t like 'b%')"]
PAIRWISE = [
    call + where
    for call in (
        "count(*)", "count(t)", "sum(i)", "sum(u)", "sum(s)", "sum(b)", "sum(x)", "avg(i)", "avg(x)",
        "min(i)", "max(u)", "min(s)", "max(i)", "min(d)", "max(d)",
    )
    for where in FILTERS
]  # fmt: skip
TEXTS = [call + where for call in CALLS for where in FILTERS] + [
    "sum(i) filter (where s > 0) / count(*)",
    "coalesce(cast(max(s) as bigint), 0) - coalesce(cast(min(s) as bigint), 0)",
    "case when count(*) > 2 then max(t) else min(t) end",
    "sum(i) + sum(u) filter (where b)",
]

# Drawn from pools: cheap to draw, and equal values meet in a group.
POOLS: dict[str, Sequence[object]] = {
    "k": ["a", "b", None],
    "i": [None, 0, -1, 7, 2**63 - 1, -(2**63), 2**62 + 1],
    "u": [None, 0, 1, 2**63, 2**64 - 1],
    "s": [None, 0, 1, -1, 2, 3, -3, 2**31 - 1, -(2**31)],
    "x": [None, 0.0, -0.0, 0.25, -1000.25, 3.5, 999.75, math.nan],
    "y": [None, 0.0, 0.25, -1000.25, 3.5, 999.75],  # DuckDB: var_pop of one NaN is 0, ours NaN
    "t": [None, "", "b", "ba", "é", "😀", "B", "'"],
    "d": [
        None,
        dt.datetime(1900, 1, 1),
        dt.datetime(2026, 2, 28, 23, 59, 59, 999999),
        dt.datetime(2100, 1, 1),
    ],
    "b": [None, True, False],
    "m": [None, Decimal("0.00"), Decimal("-0.01"), Decimal("9.99"), Decimal(10**18).scaleb(-2)],
}
rows_of = st.lists(st.tuples(*map(st.sampled_from, POOLS.values())), max_size=15)
tables = rows_of.map(lambda rows: pl.DataFrame(rows, schema=COLUMNS, orient="row"))
sketched = st.lists(st.sampled_from([c + f for c in SKETCHES for f in FILTERS]), max_size=3, unique=True)
chosen = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=12, unique=True)
DUCKDB = duckdb.connect(config={"threads": 1})
Results = dict[object, tuple[object, ...]]


def compiled(texts: Sequence[str]) -> Aggregation:
    return Aggregation.of({f"r{n}": text for n, text in enumerate(texts)}, COLUMNS)


def stored(state: pl.DataFrame) -> pl.DataFrame:
    """*state* after a way through Arrow, as in a changelog."""
    out = io.BytesIO()
    state.write_ipc_stream(out)
    return pl.read_ipc_stream(out.getvalue())


def finished(aggregation: Aggregation, state: pl.DataFrame) -> Results:
    assert state.drop("k").schema == aggregation.partials
    result = state.select("k", *aggregation.final())
    assert result.drop("k").schema == aggregation.columns
    return {k: values for k, *rest in result.iter_rows() for values in [tuple(rest)]}


def is_same(one: object, other: object) -> bool:
    """Equal; floats up to rounding, NaN like itself."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(is_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-9)
    return type(one) is type(other) and one == other


def assert_same(texts: Sequence[str], got: Results, expected: Results) -> None:
    assert got.keys() == expected.keys()
    for key, values in got.items():
        for text, mine, theirs in zip(texts, values, expected[key], strict=True):
            assert is_same(mine, theirs), (text, key, mine, theirs)


@given(st.data(), chosen, sketched, tables)
@settings(deadline=None)
def test_no_cut_and_no_tree_of_merges_show(
    data: st.DataObject, texts: list[str], sketches: list[str], rows: pl.DataFrame
) -> None:
    texts = texts + sketches
    aggregation = compiled(texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows.height), max_size=5), label="cuts"))
    pieces = [
        stored(rows[start:end].group_by("k").agg(aggregation.partial()))
        for start, end in zip([0, *cuts], [*cuts, rows.height], strict=True)
    ]
    while len(pieces) > 1:
        start = data.draw(st.integers(0, len(pieces) - 2), label="merge from")
        end = data.draw(st.integers(start + 2, len(pieces)), label="to")
        together = pl.concat(pieces[start:end]).group_by("k").agg(aggregation.merge())
        pieces[start:end] = [stored(together)]
    whole = rows.group_by("k").agg(aggregation.partial())
    assert_same(texts, finished(aggregation, pieces[0]), finished(aggregation, whole))


@given(st.lists(st.sampled_from(PAIRWISE), min_size=1, max_size=8, unique=True), tables, tables)
@settings(deadline=None)
def test_two_pieces_row_by_row_are_merged_as_in_groups(
    texts: list[str], older: pl.DataFrame, younger: pl.DataFrame
) -> None:
    aggregation = compiled(texts)
    pieces = [rows.group_by("k").agg(aggregation.partial()).sort("k") for rows in (older, younger)]
    both = [piece.join(other, on="k", how="semi", nulls_equal=True) for piece, other in permutations(pieces)]
    grouped = pl.concat(both).group_by("k").agg(aggregation.merge()).sort("k")
    merged = aggregation.merge_two(*both)
    assert merged is not None
    assert_frame_equal(merged, grouped.select(merged.columns), rel_tol=0, abs_tol=0)


def test_what_has_no_way_row_by_row_is_left_to_groups() -> None:
    nothing = pl.DataFrame(schema=COLUMNS).group_by("k").agg(compiled(["list(t)"]).partial())
    assert compiled(["count(*)", "list(t)"]).merge_two(nothing, nothing) is None


@given(st.data(), chosen, tables)
@settings(deadline=None)
def test_the_result_is_duckdbs(data: st.DataObject, texts: list[str], rows: pl.DataFrame) -> None:
    """In one piece and in two; keys, nulls, NaN, empty filters and sums beyond 64 bits included."""
    aggregation = compiled(texts)
    cut = data.draw(st.integers(0, rows.height), label="cut")
    halves = [part.group_by("k").agg(aggregation.partial()) for part in (rows[:cut], rows[cut:])]
    merged = pl.concat(halves).group_by("k").agg(aggregation.merge())
    DUCKDB.register("rows", rows.to_arrow())
    answers = DUCKDB.sql(f"select k, {', '.join(texts)} from rows group by k").fetchall()
    assert_same(texts, finished(aggregation, merged), {key: tuple(rest) for key, *rest in answers})
