"""Two laws of every decoder: it says what orjson and pydantic say row by row, and cuts change nothing."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from streamcore.batch import HIDDEN, PartitionId, RecordChunk, Rejects
from streamcore.contracts import Decoded
from streamcore.formats import Json, decoder_for
from streamcore.formats.json_documents import read_document
from streamcore.schema import Event, Refusal, StreamSchema

SOURCE = PartitionId("t", 0, "id")


class Place(Event):
    x: int = Field(ge=0)
    name: str | None = None


class Reading(Event):
    """A field of every kind that the columns read themselves."""

    i: int = Field(gt=-5, multiple_of=2)
    f: float | None = Field(None, lt=1e6)
    s: str | None = Field(None, min_length=1, max_length=6, pattern="^[^z]")
    b: bool | None = None
    t: dt.datetime | None = None
    d: dt.date | None = None
    m: Decimal | None = Field(None, max_digits=8, decimal_places=2)
    y: bytes | None = None
    c: Literal["a", "b"] | None = None
    n: int = 7
    o: float | None
    ls: list[str] | None = None
    p: Place | None = None
    named: str | None = Field(None, alias="A name")


SCHEMA = StreamSchema.of(Reading)

texts = st.sampled_from(
    [
        "",
        "a",
        "b",
        "z",
        "5",
        "-1.5",
        "1e3",
        "true",
        "null",
        "[1]",
        "{",
        "abcdefg",
        "é",
        "\u2028",
        "\x00",
        "😀",
        ":",
        "\\",
    ]
) | st.text(max_size=8)
moments = st.datetimes(
    timezones=st.none() | st.just(dt.timezone.utc) | st.just(dt.timezone(dt.timedelta(hours=-3.5)))
)
spelled = (
    moments.map(lambda v: v.isoformat())
    | moments.map(lambda v: v.isoformat(" ", "minutes"))
    | st.dates().map(str)
    | st.sampled_from(
        ["0000-01-01", "2020-02-30", "2020-01-01T00:00:60", "9999-12-31T23:59:59-01:00", "1577836800"]
    )
)
numbers = (
    st.integers(-10, 10)
    | st.integers(-(2**65), 2**65)
    | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-9, 9).map(float)
)
scalars = st.none() | st.booleans() | numbers | texts | spelled
anything = st.recursive(
    scalars,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("xnab") | texts, v, max_size=3),
    max_leaves=5,
)
good = st.fixed_dictionaries(
    {"i": st.integers(0, 50).map(lambda v: v * 2), "o": st.none() | st.floats(-5, 5)},
    optional={
        "f": st.floats(-1e5, 1e5),
        "s": texts,
        "b": st.booleans(),
        "t": spelled,
        "d": st.dates().map(str),
        "m": st.decimals(-999, 999, places=2).map(str) | st.floats(-99, 99).map(lambda v: round(v, 2)),
        "y": st.binary(max_size=5).map(lambda v: base64.b64encode(v).decode()),
        "c": st.sampled_from("ab"),
        "n": st.integers(),
        "ls": st.lists(texts, max_size=3),
        "p": st.fixed_dictionaries({"x": st.integers(-1, 3)}, optional={"name": texts}),
        "A name": texts,
        "named": texts,
        "extra": anything,
    },
)
spoiled = st.builds(lambda d, k, v: {**d, k: v}, good, st.sampled_from([*SCHEMA.columns, "A name"]), anything)


@st.composite
def documents(draw: st.DrawFn) -> bytes | None:
    """JSON, or nearly."""
    value = draw(st.one_of(good, good, spoiled, anything))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 1])))
    how = draw(st.integers(0, 11))
    if how == 0:
        return draw(
            st.sampled_from([None, b"", b" ", b"\n", b"\xef\xbb\xbf{}", b"{} {}", b"NaN"])
            | st.binary(max_size=6)
        )
    data = text.encode("utf-8", "surrogatepass")
    if how == 1:
        at = draw(st.integers(0, len(data)))
        return data[:at] + draw(st.binary(max_size=2)) + data[at + draw(st.integers(0, 2)) :]
    if how == 2 and isinstance(value, dict) and value:
        repeat = json.dumps({draw(st.sampled_from(list(value))): draw(scalars)})
        return (text[:-1] + "," + repeat[1:]).encode("utf-8", "surrogatepass")
    return data


def by_rows(values: Sequence[bytes | None]) -> list[tuple[object, ...]]:
    """The definition: each message by itself, orjson, then pydantic."""
    rows: list[tuple[object, ...]] = []
    for offset, text in enumerate(values):
        verdict: object = Refusal("tombstone", "")
        if text is not None:
            document = read_document(text)
            verdict = (
                document if isinstance(document, Refusal) else SCHEMA.parse(document.value, document.text)
            )
        if isinstance(verdict, Refusal):
            rows.append((offset, verdict.code))
        else:
            assert isinstance(verdict, dict)
            frame = pl.DataFrame([pl.Series(n, [verdict[n]], t) for n, t in SCHEMA.columns.items()])
            rows.append((offset, frame.rows()[0]))
    return rows


def said(decoded: Decoded) -> list[tuple[object, ...]]:
    passed = zip(decoded.frame["_offset"].to_list(), decoded.frame.drop(HIDDEN).rows(), strict=True)
    refused = decoded.rejects.frame.select("_offset", "code").rows()
    return sorted([*passed, *refused], key=lambda r: r[0])


FILLER = [b'{"i": 2, "o": 1.5, "s": "ok"}'] * 80
"""Enough good rows that the columnar path is taken."""


@settings(max_examples=120, deadline=None)
@given(st.lists(documents(), min_size=1, max_size=12))
@example([b'{"i":2,"i":"x","o":null}'])
@example([b'{"i":2,"o":null,"s":"\\ud83d"}', b'{"i":2,"o":null,"s":5}'])
@example([b'{"i":2,"o":null}\n{"i":4,"o":null}', b""])
def test_columns_say_what_orjson_and_pydantic_say(values: list[bytes | None]) -> None:
    decoder = decoder_for(Json(), SCHEMA)
    decoded = decoder.decode(RecordChunk(SOURCE, range(len(values) + len(FILLER)), [*values, *FILLER]))
    assert decoded.frame.drop(HIDDEN).schema == SCHEMA.columns
    # repr: NaN equals itself, 1 is not 1.0
    assert repr(said(decoded)[: len(values)]) == repr(by_rows(values))


forms = st.sampled_from([Json(), Json(lines=True), Json(array=True)])


@settings(max_examples=60, deadline=None)
@given(forms, st.lists(documents(), max_size=20), st.lists(st.integers(0, 200), max_size=5), st.booleans())
def test_cuts_change_nothing(form: Json, values: list[bytes | None], cuts: list[int], many: bool) -> None:
    if form.array:
        values = [None if v is None else b"[" + v + b", {}]" for v in values]
    if many:
        values = [*values, *FILLER, *values]
    decoder = decoder_for(form, SCHEMA)
    whole = decoder.decode(RecordChunk(SOURCE, range(len(values)), values))
    ends = sorted({min(c, len(values)) for c in cuts} | {0, len(values)})
    parts = [
        decoder.decode(RecordChunk(SOURCE, np.arange(a, b), values[a:b])) for a, b in pairwise(ends)
    ] or [whole]
    assert pl.concat([p.frame for p in parts]).equals(whole.frame)
    assert Rejects.join([p.rejects for p in parts]).frame.equals(whole.rejects.frame)


@settings(max_examples=50, deadline=None)
@given(forms, st.lists(good, max_size=8))
def test_what_is_written_reads_back(form: Json, rows: list[dict[str, object]]) -> None:
    values = [json.dumps(row).encode() for row in rows]
    frame = (
        decoder_for(Json(), SCHEMA).decode(RecordChunk(SOURCE, range(len(values)), values)).frame.drop(HIDDEN)
    )
    texts = form.encode(frame).to_pylist()
    assert len(texts) == frame.height
    again = decoder_for(form, SCHEMA).decode(RecordChunk(SOURCE, range(len(texts)), texts))
    assert again.rejects.frame.is_empty()
    assert again.frame.drop(HIDDEN).equals(frame)
