"""Laws of frames: a text column is read as pydantic reads its texts, and cuts change nothing."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from streamcore.batch import HIDDEN, OFFSET, FrameChunk, PartitionId, Rejects
from streamcore.contracts import Decoded
from streamcore.formats import Json, decoder_for
from streamcore.schema import Event, Refusal, StreamSchema

SOURCE = PartitionId("t", 0, "id")


class Row(Event):
    """A line of a CSV file: everything is text."""

    i: int | None = Field(None, ge=-50)
    f: float | None = None
    b: bool | None = None
    t: dt.datetime | None = None
    d: dt.date | None = None
    h: dt.time | None = None
    m: Decimal | None = None
    s: str | None = Field(None, alias="A text", max_length=12)
    n: int = 3


SCHEMA = StreamSchema.of(Row)
DECODER = decoder_for(Json(), SCHEMA)
texts = st.none() | st.one_of(
    st.sampled_from(
        [
            "",
            " 5",
            "5 ",
            "+5",
            "007",
            "-0",
            "1_000",
            "1e3",
            "5.0",
            "5.",
            ".5",
            "nan",
            "inf",
            "1e999",
            "TRUE",
            "False",
            "yes",
            "0",
            "1",
            "2020-02-30",
            "2020-01-01T24:00:00",
            "24:00:00",
            "12:00:60",
            "é",
            "9" * 25,
            "1577836800",
        ]
    ),
    st.integers(-(2**64), 2**64).map(str),
    st.floats().map(str),
    st.datetimes(timezones=st.none() | st.just(dt.timezone(dt.timedelta(hours=5.75)))).map(str),
    st.dates().map(str),
    st.times().map(str),
    st.decimals(-(10**9), 10**9, allow_nan=False).map(str),
    st.text(max_size=5),
)
tables = st.lists(st.fixed_dictionaries(dict.fromkeys((*"ifbtdhmn", "A text"), texts)), max_size=8)


def decode(rows: list[dict[str, str | None]], first: int = 0) -> Decoded:
    names = dict.fromkeys([*"ifbtdhmn", "A text"], pl.String())
    frame = pl.DataFrame(rows, schema=names)
    offsets = np.arange(first, first + len(rows))
    return DECODER.decode(FrameChunk(SOURCE, offsets, frame, first=first, end=first + len(rows)))


@settings(max_examples=150, deadline=None)
@given(tables)
@example([{**dict.fromkeys([*"ifbtdhmn", "A text"]), "n": None, "f": "nan"}])
def test_texts_are_read_as_pydantic_reads_them(rows: list[dict[str, str | None]]) -> None:
    decoded = decode(rows)
    passed = dict(zip(decoded.frame[OFFSET].to_list(), decoded.frame.drop(HIDDEN).rows(), strict=True))
    refused = set(decoded.rejects.frame[OFFSET])
    for place, row in enumerate(rows):
        given = {name: value for name, value in row.items() if value is not None or name != "n"}
        verdict = SCHEMA.parse(given)
        if isinstance(verdict, Refusal):
            assert place in refused
        else:
            expected = pl.DataFrame([pl.Series(n, [verdict[n]], t) for n, t in SCHEMA.columns.items()]).row(0)
            assert repr(passed[place]) == repr(expected)


@settings(max_examples=60, deadline=None)
@given(tables, st.integers(0, 8))
def test_cuts_change_nothing(rows: list[dict[str, str | None]], cut: int) -> None:
    cut = min(cut, len(rows))
    whole, parts = decode(rows), [decode(rows[:cut]), decode(rows[cut:], cut)]
    assert pl.concat([p.frame for p in parts]).equals(whole.frame)
    assert Rejects.join([p.rejects for p in parts]).frame.equals(whole.rejects.frame)
