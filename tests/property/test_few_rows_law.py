"""Few rows go other ways than many, since a call of polars costs more than they do, to the same result."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamcore.batch import OFFSET, Batch, PartitionId, RecordChunk, Share, hide, rows_of
from streamcore.formats import Json, json_values
from streamcore.formats import json as json_format
from streamcore.formats.json_values import read_values
from streamcore.sinks import topic_records
from streamcore.sinks.topic_records import record_keys
from streamcore.transforms import columns as steps
from streamcore.transforms.columns import Filter

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
