"""The COPY stream built in columns equals one built value by value."""

from __future__ import annotations

import struct
from datetime import date, datetime

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.sinks.column_checks import ColumnChecks
from streamcore.sinks.postgres_columns import ColumnPair, TableColumn
from streamcore.sinks.postgres_copy import CopyStream

COLUMNS = {
    "a": ("int8", pl.Int64),
    "b": ("text", pl.String),
    "c": ("float8", pl.Float64),
    "d": ("jsonb", pl.String),
    "e": ("bool", pl.Boolean),
    "f": ("date", pl.Date),
    "g": ("timestamp", pl.Datetime("us")),
    "h": ("int2", pl.Int32),
    "i": ("bytea", pl.Binary),
}
PAIRS = [
    ColumnPair(TableColumn(name, kind, kind), pl.Series(dtype=dtype).dtype)
    for name, (kind, dtype) in COLUMNS.items()
]


def field(kind: str, value: object) -> bytes:
    """One field by the documentation's words."""
    if value is None:
        return struct.pack(">i", -1)
    if isinstance(value, datetime):
        body = struct.pack(">q", (value - datetime(2000, 1, 1)) // (datetime.resolution))
    elif isinstance(value, date):
        body = struct.pack(">i", (value - date(2000, 1, 1)).days)
    elif isinstance(value, (str, bytes)):
        body = value.encode() if isinstance(value, str) else value
        body = b"\1" + body if kind == "jsonb" else body
    else:
        body = struct.pack({"int8": ">q", "int2": ">h", "float8": ">d", "bool": ">?"}[kind], value)
    return struct.pack(">i", len(body)) + body


def values(some: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | some


ROW = st.tuples(
    values(st.integers(-(2**63), 2**63 - 1)),
    values(st.text(max_size=8)),
    values(st.floats(allow_nan=False)),
    values(st.text(max_size=4)),
    values(st.booleans()),
    values(st.dates()),
    values(st.datetimes()),
    values(st.integers(-(2**15), 2**15 - 1)),
    values(st.binary(max_size=8)),
)


@settings(deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=12), chosen=st.sets(st.sampled_from(sorted(COLUMNS)), min_size=1)
)
def test_binary_stream_equals_the_one_built_value_by_value(
    rows: list[tuple[object, ...]], chosen: set[str]
) -> None:
    schema = {name: dtype for name, (_, dtype) in COLUMNS.items()}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    pairs = [pair for pair in PAIRS if pair.table.name in chosen]
    places = [place for place, pair in enumerate(PAIRS) if pair.table.name in chosen]
    wanted = b"".join(
        struct.pack(">h", len(pairs))
        + b"".join(field(pair.table.type, row[place]) for pair, place in zip(pairs, places, strict=True))
        for row in rows
    )
    stream = CopyStream(pairs)
    assert stream.form == "binary"
    assert stream.binary(frame) == wanted
    assert b"".join(stream.binary(frame[i : i + 3]) for i in range(0, frame.height, 3)) == wanted


async def test_the_stream_is_cut_into_pieces_of_bounded_size() -> None:
    frame = pl.DataFrame({"b": ["x" * 100_000] * 500})
    pieces = [len(piece) async for piece in CopyStream([PAIRS[1]]).of(frame)]
    assert max(pieces) < 8 * 2**20
    assert sum(pieces) == 19 + 500 * (2 + 4 + 100_000) + 2


def test_a_row_with_two_faults_is_refused_once_with_the_first_reason() -> None:
    pairs = [
        ColumnPair(TableColumn("n", "int2", "smallint"), pl.Int64()),
        ColumnPair(TableColumn("t", "varchar", "character varying(2)", length=2), pl.String()),
    ]
    frame = pl.DataFrame(
        {"n": [1, 2**40, 3], "t": ["ok", "a\0bc", "abc"], "_offset": [5, 6, 7], "_sub": [0, 0, 0]},
        schema_overrides={"_sub": pl.UInt32},
    )
    good, rejects = ColumnChecks(pairs, ()).refused(frame, "sink")
    assert good["_offset"].to_list() == [5]
    assert rejects.frame.select("_offset", "code").rows() == [
        (6, "numeric_value_out_of_range"),
        (7, "string_data_right_truncation"),
    ]
