"""Few rows go other ways than many, since a call of polars costs more than they do, to the same result."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import streamcore as sc
from streamcore import few_rows
from streamcore.batch import OFFSET, Batch, PartitionId, RecordChunk, Share, hide, rows_of
from streamcore.few_rows import values_of
from streamcore.formats import Json, json_values
from streamcore.formats import json as json_format
from streamcore.formats.json_values import read_values
from streamcore.sinks import topic_records
from streamcore.sinks.topic_records import record_keys
from streamcore.transforms import columns as steps
from streamcore.transforms.columns import AddColumn, Filter
from streamcore.validation import rules

SCHEMA = pl.Schema(
    {"i": pl.Int64, "small": pl.Int8, "u": pl.UInt64, "f": pl.Float64, "b": pl.Boolean, 's "é"\n': pl.String}
)
VALUES = (
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-128, 127),
    st.integers(0, (1 << 64) - 1),
    st.floats(),
    st.booleans(),
    st.text(),
)
FRAMES = st.lists(st.tuples(*(st.none() | value for value in VALUES)), max_size=12).map(
    lambda rows: pl.DataFrame(rows, schema=SCHEMA, orient="row")
)
CONDITIONS = [
    "i > 0",
    "b",
    "f < 1 or i is null",
    "i is null or i is not null",
    "small = 0",
    "1 = 1",
    "1 = 2",
]


@given(FRAMES, st.booleans())
def test_json_is_the_same_text(frame: pl.DataFrame, array: bool) -> None:
    form = Json(array=array)
    few = form.encode(frame)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_format, "_FEW", -1)
        assert form.encode(frame).equals(few)


PIECES = [
    b'{"a":1}', b'{"a":[{}', b"{}]}", b"{},{}", b'{"}":[{}', b'{},"{"]}', b'{"a":"x', b'y"}', b"", b" {} ",
    b'{"a":1,"a":2}', b'{"a":"{"}', b'{"a":"1:2","b":true}', b'{"a":2.5}', b'{"a":{"a":1}}', b"{", b"}",
    b"[1]", b'{"a":1\n}', b'{"b":"x"}', b'{"\\u0061":1,"a":2}', b'{"b":"\\ud800"}',
    b'{"a":9223372036854775808}',
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), min_size=1, max_size=6))
@example([b'{"}":[{}', b'{},"{"]}', b"{},{}"])
@example([b'{"z":[1', b"2]},{}"])
def test_documents_read_together_are_those_read_one_by_one(texts: list[bytes]) -> None:
    inputs = pl.Schema({"a": pl.Int64, "b": pl.String})
    frame, doubt = read_values(texts, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_read_together", lambda texts: None)
        one_by_one, doubt_of_each = read_values(texts, inputs)
    assert doubt.tolist() == doubt_of_each.tolist()
    assert frame.equals(one_by_one)


@given(FRAMES, st.sampled_from(CONDITIONS))
def test_a_filter_keeps_the_same_rows(frame: pl.DataFrame, text: str) -> None:
    step = Filter(text, SCHEMA)
    expected = frame.filter(step._expression)
    for few in (-1, steps.FEW):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(steps, "FEW", few)
            assert step.apply(frame, "filter").frame.equals(expected)


SOME = pl.Schema(
    {"a": pl.Int64, "b": pl.Int64, "x": pl.Float64, "s": pl.String, "t": pl.String, "p": pl.Boolean}
    | {"q": pl.Boolean, "small": pl.Int8, "d": pl.Date}
)
NUMBERS = st.sampled_from([-1, 0, 1, 2, 1 << 60])
FLOATS = st.sampled_from([-0.0, 0.0, 1.0, 1.5, float("nan"), float("inf")])
WORDS, TRUTHS = st.sampled_from(["", "a", "b"]), st.booleans()
DATES = st.dates()
ROWS = st.tuples(
    *(
        st.none() | values
        for values in (NUMBERS, NUMBERS, FLOATS, WORDS, WORDS, TRUTHS, TRUTHS, st.integers(-128, 127), DATES)
    )
)
SOME_FRAMES = st.lists(ROWS, max_size=8).map(lambda rows: pl.DataFrame(rows, schema=SOME, orient="row"))
BY_SERIES = [
    "a >= 1", "1 < a", "a = b", "a <> b", "x > 0", "x <= 1e0", "x = x", "s = 'a'", "'a' <> s", "s < t", "p",
    "p = q", "not p", "not (a > 1 or q)", "p and q", "p or x > 1 and not q", "a is null",
    "s is not null or p", "a between 0 and 2", "case when a < 1 then 'x' when a < 2 then 'y' else 'z' end",
    "case when p then s else t end", "case when p then 'k' else t end", "case when x > 1 then a else b end",
    "case when p then q else a > 0 end", "case when p then s when q then 'z' else t end",
]  # fmt: skip
BY_ENGINE = [
    "small > 3", "d is null", "x < 1.5", "a + 1 > b", "lower(s) = 'a'", "a in (1, 2)", "a > x", "1 = 2",
    "'k'", "case when p then 1 else 2 end", "case when p then s end", "coalesce(s, t)",
    "cast(a as double) > x",
]  # fmt: skip


def test_what_series_know_is_known_by_them() -> None:
    """Or the law below would hold for nothing."""
    known = [
        text for text in BY_SERIES + BY_ENGINE if few_rows._by_series(pl.sql_expr(text), SOME) is not None
    ]
    assert known == BY_SERIES


@given(SOME_FRAMES, st.sampled_from(BY_SERIES + BY_ENGINE))
def test_expressions_have_the_same_values(frame: pl.DataFrame, text: str) -> None:
    expression = pl.sql_expr(text)
    expected = frame.with_columns(expression.alias("value"))["value"]
    for few in (-1, few_rows.FEW):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(few_rows, "FEW", few)
            found = values_of(expression, SOME)(frame)
            added = AddColumn("value", text, SOME).apply(frame, "add").frame
            again = AddColumn("s", text, SOME).apply(frame, "add").frame
        assert found.dtype == expected.dtype
        assert found.equals(expected, null_equal=True)
        assert added.equals(frame.with_columns(expression.alias("value")))
        assert again.equals(frame.with_columns(expression.alias("s")))


EDGES = [
    "a@b.c", "a@b.c\n", "a" * 64 + "@b.c", "a" * 65 + "@b.c",
    "a@" + "b." * 125 + "cc", "a@" + "b." * 126 + "cc",
    "a@" + "b" * 63 + ".c", "a@" + "b" * 64 + ".c", "a@b-.c", "a@b.c-", "a@b..c", "@b.c", "a@b", "ſ@b.c",
]  # fmt: skip
ADDRESSES = st.text(st.sampled_from("aZ9.@-_ \nü\u0660ſK"), max_size=12) | st.sampled_from(EDGES)


@given(st.lists(st.none() | ADDRESSES, max_size=8))
def test_addresses_are_judged_the_same(addresses: list[str | None]) -> None:
    frame = pl.DataFrame({"e": addresses}, schema={"e": pl.String})
    failing = sc.rules.email("e").compile(frame.schema)
    few = failing(frame)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "FEW", -1)
        many = sc.rules.email("e").compile(frame.schema)(frame)
    assert few.fill_null(False).equals(many.fill_null(False))


@given(FRAMES, st.sampled_from(SCHEMA.names()))
def test_keys_are_the_same_text(frame: pl.DataFrame, column: str) -> None:
    few = record_keys(frame, [column])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topic_records, "_FEW", -1)
        assert record_keys(frame, [column]).equals(few)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_batches_that_share_a_frame_give_their_rows(sizes: list[int], data: st.DataObject) -> None:
    ends = np.cumsum(sizes).tolist()
    whole = hide(pl.DataFrame({"n": range(ends[-1])}), np.arange(ends[-1]))
    batches = []
    for number, (size, end) in enumerate(zip(sizes, ends, strict=True)):
        start = end - size
        source = PartitionId("t", number, "id")
        chunk = RecordChunk(source, list(range(start, end)), [b""] * size, first=start, end=end)
        share = Share(whole, start, end)
        batches.append(Batch(whole.slice(start, size), {source: chunk.covered}, chunk, share=share))
    taken = data.draw(st.lists(st.sampled_from(batches), min_size=1, max_size=8) | st.just(batches))
    cut = data.draw(st.booleans())
    chosen = [batch.cut(batch.range.start + 1, batch.range.end) if cut else batch for batch in taken]
    assert rows_of(chosen).equals(pl.concat([batch.frame for batch in chosen]))
    odd = taken[0].with_frame(taken[0].frame.filter(pl.col(OFFSET) % 2 == 1))
    assert rows_of([odd]).equals(odd.frame)
