"""Columns as text of Redis come back as they were into a stream of the same types; keys tell rows apart."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from streamcore.batch import FrameChunk, PartitionId, hide, user_columns
from streamcore.formats import Json, decoder_for
from streamcore.schema import StreamSchema
from streamcore.sinks.column_checks import ColumnChecks
from streamcore.sinks.redis_columns import KeyPattern, text_of

SOURCE = PartitionId("t", 0, "id")
FINITE = st.floats(allow_nan=False, allow_infinity=False)  # no stream reads the others from text
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TYPES: dict[str, tuple[pl.DataType, st.SearchStrategy[object]]] = {
    "i64": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "u64": (pl.UInt64(), st.integers(0, 2**64 - 1)),
    "i8": (pl.Int8(), st.integers(-128, 127)),
    "f64": (pl.Float64(), FINITE),
    "f32": (pl.Float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "bool": (pl.Boolean(), st.booleans()),
    "text": (pl.String(), TEXTS),
    "date": (pl.Date(), st.dates()),
    "time": (pl.Time(), st.times()),
    "naive": (pl.Datetime("us"), st.datetimes()),
    "utc": (pl.Datetime("us", "UTC"), st.datetimes(timezones=st.just(dt.timezone.utc))),
    "decimal": (pl.Decimal(38, 9), st.decimals(-(10**20), 10**20, places=9)),
}
COLUMNS = pl.Schema({name: dtype for name, (dtype, _) in TYPES.items()})
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | one for name, (_, one) in TYPES.items()}), max_size=6
)


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_each_type_comes_back_from_its_text(rows: list[dict[str, object]]) -> None:
    frame = pl.DataFrame(rows, schema=COLUMNS)
    texts = frame.select(text_of(name, dtype) for name, dtype in COLUMNS.items())
    assert set(texts.dtypes) == {pl.String()}
    chunk = FrameChunk(SOURCE, np.arange(len(rows)), texts, first=0, end=len(rows))
    decoded = decoder_for(Json(), StreamSchema.from_columns(COLUMNS)).decode(chunk)
    assert not len(decoded.rejects), decoded.rejects.frame
    assert_frame_equal(user_columns(decoded.frame), frame)


PIECES = st.text("a:-", max_size=5)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["{a}:{b}", "x{b}::{a}:{n}", "{a}-:{n}1{b}", "{n}0{day}0{a}"]),
    st.lists(
        st.fixed_dictionaries(
            {
                "a": PIECES,
                "b": PIECES,
                "n": st.integers(-2, 30),
                "day": st.dates(dt.date(2026, 1, 1), dt.date(2026, 1, 3)),
            }
        ),
        max_size=40,
    ),
)
def test_rows_of_other_keys_are_never_at_the_same_key(pattern: str, rows: list[dict[str, object]]) -> None:
    """Those that could be are refused."""
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.String, "n": pl.Int64, "day": pl.Date})
    keys = KeyPattern(pattern, frame.schema)
    checks = ColumnChecks([keys], keys.names)
    kept, refused = checks.refused(hide(frame, np.arange(len(rows), dtype=np.int64)), "sink")
    assert set(refused.frame["code"] if len(refused) else []) <= {"ambiguous_key"}
    found = kept.select(*keys.names, keys.value.alias("key")).unique()
    assert found["key"].n_unique() == found.height
    if pattern == "{a}:{b}" and rows and all(":" not in str(row["a"]) for row in rows):
        assert not len(refused)
