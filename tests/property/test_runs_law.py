"""Runs hold what was added to them, however it was merged, and few of them hold much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.state.runs import (
    HASH,
    Runs,
    added,
    as_run,
    compacted,
    folded,
    forgotten,
    found,
    hashes_of,
    matches,
    merged_by,
    taken,
)

PIECES = st.lists(st.lists(st.integers(0, 30), max_size=25), max_size=12)


def summed(pieces: pl.DataFrame) -> pl.DataFrame:
    grouped = pieces.group_by("key", maintain_order=True)
    return grouped.agg(
        pl.col("n").sum(),
        pl.col("parts").list.explode(keep_nulls=False, empty_as_null=False),
        pl.col(HASH).last(),
    )


def merge(frame: pl.DataFrame) -> pl.DataFrame:
    return merged_by(frame, lambda pieces: folded(pieces, summed))


def piece(keys: list[int], number: int) -> pl.DataFrame:
    once = list(dict.fromkeys(keys))
    columns = {"key": once, "n": [keys.count(key) for key in once], "parts": [[number]] * len(once)}
    types = {"key": pl.Int64, "n": pl.Int64, "parts": pl.List(pl.Int64)}
    return as_run(pl.DataFrame(columns, schema=types), ["key"])


def runs_of(pieces: list[list[int]]) -> Runs:
    runs = Runs()
    for number, keys in enumerate(pieces):
        runs = added(runs, piece(keys, number), merge)
        assert all(frame.height and frame[HASH].is_sorted() for frame in runs)
    return runs


def looked_up(runs: Runs, keys: list[int]) -> dict[int, tuple[int, list[int]]]:
    parts = found(runs, hashes_of(pl.DataFrame({"key": keys}, schema={"key": pl.Int64}), ["key"]))
    rows = summed(pl.concat(parts)).rows() if parts else []
    return {key: (n, list(of)) for key, n, of, _ in rows}


@settings(deadline=None, max_examples=150)
@given(pieces=PIECES, wanted=st.lists(st.integers(0, 40)))
def test_what_is_found_of_a_key_is_all_that_was_added_older_first(pieces, wanted):
    runs = runs_of(pieces)
    expected: dict[int, tuple[int, list[int]]] = {}
    for number, keys in enumerate(pieces):
        for key in dict.fromkeys(keys):
            n, of = expected.get(key, (0, []))
            expected[key] = (n + keys.count(key), [*of, number])
    one = {key: value for key, value in expected.items() if key in wanted}
    assert looked_up(runs, wanted) == one
    whole = compacted(runs, merge)
    assert looked_up(whole, wanted) == one
    assert sum(frame.height for frame in whole) == len(expected)


@settings(deadline=None, max_examples=100)
@given(pieces=PIECES, least=st.integers(0, 31))
def test_rows_are_taken_all_and_forgotten_where_they_are_many(pieces, least):
    runs, gone = runs_of(pieces), pl.col("key") < least
    stay, rows = taken(runs, gone)
    count = sum(frame.height for frame in runs)
    assert all((part["key"] < least).all() for part in rows)
    assert all((frame["key"] >= least).all() for frame in stay)
    assert sum(part.height for part in [*rows, *stay]) == count
    less = forgotten(runs, gone)
    lives = {key for frame in runs for key in frame["key"] if key >= least}
    assert {key for frame in less for key in frame["key"] if key >= least} == lives
    assert all(2 * (frame["key"] < least).sum() < frame.height for frame in less)


@settings(deadline=None, max_examples=100)
@given(
    there=st.lists(st.integers(0, 12), max_size=20),
    wanted=st.lists(st.integers(0, 12), max_size=20).map(sorted),
)
def test_matches_are_all_pairs_of_equal_hashes_in_their_order(there, wanted):
    run = pl.DataFrame({HASH: sorted(there)}, schema={HASH: pl.UInt64})
    places = matches(run, np.array(wanted, np.uint64))
    pairs = list(zip(*(each.tolist() for each in places), strict=True))
    own = run[HASH].to_list()
    assert pairs == [(i, j) for i, a in enumerate(wanted) for j, b in enumerate(own) if a == b]


def test_a_row_is_copied_few_times_never_many_at_once_and_few_runs_are_looked_into():
    copied = most = 0

    def counting(frame: pl.DataFrame) -> pl.DataFrame:
        nonlocal copied
        copied += frame.height
        return merge(frame)

    runs, rows, random = Runs(), 0, np.random.default_rng(1)
    for number in range(400):
        keys = list(range(rows, rows + 10)) if number < 200 else random.integers(0, 2_000, 10).tolist()
        rows, before = rows + len(keys), copied
        runs = added(runs, piece(keys, number), counting)
        held = sum(frame.height for frame in runs)
        most = max(most, copied - before - held // 16)
        ends = [frame[HASH][-1] for frame in runs]
        levels = 1 + sum(a >= frame[HASH][0] for a, frame in zip(ends[:-1], runs[1:], strict=True))
        assert levels <= 30
        assert held <= max(1.6 * min(rows, 2_000), 40)
    assert copied <= 6 * rows
    assert most <= 300


def test_the_sweep_goes_on_where_it_is_worth_while_wherever_it_was():
    """Runs that were put together anew, or lost rows, forget how far the sweep was, or have it elsewhere."""
    runs, random = Runs(), np.random.default_rng(2)
    for number in range(150):
        runs = added(runs, piece(random.integers(0, 200, 10).tolist(), number), merge)
        if number % 7 == 0:
            runs = replace(runs, swept=int(random.integers(0, 1 << 63)) * 2 + number % 2)
        if number % 50 == 48:
            runs, _ = taken(runs, pl.col("key") < number)
        assert sum(frame.height for frame in runs) <= 400


FEW = st.dictionaries(st.integers(0, 20), st.booleans(), max_size=3).map(lambda marks: [*marks.items()])
MARKED = st.lists(FEW, max_size=14).map(lambda few: [[(key, False) for key in range(21)], *few])


@settings(deadline=None, max_examples=150)
@given(pieces=MARKED)
def test_what_the_oldest_run_leaves_out_is_hidden_until_nothing_older_is_there(pieces):
    """A mark that a key is gone must hide older pieces of it, and goes with the last of them."""
    runs, there = Runs(), dict[int, int]()
    for number, marks in enumerate(pieces):
        rows = [(key, number, gone) for key, gone in marks]
        frame = pl.DataFrame(rows, schema={"key": pl.Int64, "n": pl.Int64, "gone": pl.Boolean}, orient="row")
        runs = added(
            runs,
            as_run(frame, ["key"]),
            lambda f: merged_by(f, lambda p: p.unique("key", keep="last", maintain_order=True)),
            oldest=lambda f: f.filter(~pl.col("gone")),
        )
        there |= {key: number for key, gone in marks if not gone}
        there = {key: n for key, n in there.items() if (key, True) not in marks}
        parts = [run.select("key", "n", "gone") for run in runs] or [frame.clear()]
        last = pl.concat(parts).unique("key", keep="last", maintain_order=True).filter(~pl.col("gone"))
        assert dict(last.select("key", "n").rows()) == there
