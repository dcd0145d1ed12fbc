"""Columns by a sample: texts, documents; how schemas differ; names of types."""

from __future__ import annotations

import polars as pl
import pytest

from streamcore.schema import StreamSchema
from streamcore.schema.differing import Difference, differences
from streamcore.schema.inferring import narrowed, of_documents
from streamcore.schema.types import TYPE_NAMES, name_of, type_named


@pytest.mark.parametrize(
    ("texts", "dtype"),
    [
        (["1", "-7", None, ""], pl.Int64()),
        (["1", "2.5", "1e3"], pl.Float64()),
        (["true", "false"], pl.Boolean()),
        (["2026-11-29"], pl.Date()),
        (["2026-11-29T01:02:03Z", "2026-11-29 01:02:03.5"], pl.Datetime("us", "UTC")),
        (["01:02:03"], pl.Time()),
        (["007", "1"], pl.String()),
        (["9223372036854775808"], pl.Float64()),
        (["1", "x"], pl.String()),
        ([None, ""], pl.String()),
        ([], pl.String()),
    ],
)
def test_texts_are_of_the_narrowest_type_that_all_are(texts: list[str | None], dtype: pl.DataType) -> None:
    assert narrowed(pl.DataFrame({"x": pl.Series(texts, dtype=pl.String)}))["x"] == dtype


def test_other_columns_stay_and_nothing_but_nulls_is_text() -> None:
    frame = pl.DataFrame({"a": [1], "b": [None]}, schema={"a": pl.Int8, "b": pl.Null})
    assert narrowed(frame) == {"a": pl.Int8(), "b": pl.String()}


def test_documents_give_columns_that_hold_all_of_them() -> None:
    frame, refused = of_documents([b'{"a": 1}', b'{"a": 1.5,\n"b": [1]}', b"[1]", b"{", None, b'{"b": null}'])
    assert (frame.schema, refused) == ({"a": pl.Float64(), "b": pl.List(pl.Int64)}, 3)
    assert frame.rows() == [(1.0, None), (1.5, [1]), (None, None)]
    assert of_documents([b"7"])[1] == 1


def test_how_schemas_differ() -> None:
    before = pl.Schema({"same": pl.Int8(), "gone": pl.Int8(), "wide": pl.Int8(), "other": pl.String()})
    after = pl.Schema({"other": pl.Int8(), "same": pl.Int8(), "wide": pl.Int64(), "new": pl.List(pl.Int8)})
    assert differences(before, after) == [
        Difference("gone", "int8", None, "missing"),
        Difference("wide", "int8", "int64", "wider"),
        Difference("other", "string", "int8", "other type"),
        Difference("new", None, "pl.List(pl.Int8)", "new"),
    ]
    assert differences(before, before) == []


@pytest.mark.parametrize("name", TYPE_NAMES)
def test_a_types_name_names_it(name: str) -> None:
    assert type_named(name_of(type_named(name))) == type_named(name)


def test_what_has_no_name_is_written_as_python() -> None:
    dtype = pl.Struct(
        {"a b": pl.List(pl.Int64), "d": pl.Decimal(12, 2), "t": pl.Datetime("ms", "Europe/Paris")}
    )
    made = eval(name_of(dtype), {"pl": pl})
    assert made == dtype
    assert StreamSchema.from_columns({"x": made}).columns["x"] == dtype
