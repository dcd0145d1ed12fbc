"""How the lines of a table of types are shown to be true: rows there, and back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import polars as pl
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from batch_adapters.catalogue import open_source
from streamcore.batch import user_columns
from streamcore.contracts import Decoded, Sink
from streamcore.errors import BadConfig
from streamcore.formats import Json, decoder_for
from streamcore.schema import StreamSchema
from streamcore.testing.sources import SOURCE, read_chunks
from tests.conformance.type_tables import Found, Line, Sent
from tests.integration.sinks.delivery import write

PLACE = "place"
AGAIN = 70
"""Pages of 200 documents and more are read another way than those of less."""


def columns_of(lines: Sequence[Line]) -> dict[str, Sent]:
    return {name: one for line in lines for name, one in line.columns.items()}


def rows_of(columns: Mapping[str, Sent]) -> st.SearchStrategy[list[dict[str, object]]]:
    row = st.fixed_dictionaries({name: st.none() | one.values for name, one in columns.items()})
    again = st.sampled_from([1, AGAIN])
    return st.builds(lambda rows, times: rows * times, st.lists(row, min_size=3, max_size=6), again)


def frame_of(columns: Mapping[str, Sent], rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    schema = {name: one.dtype for name, one in columns.items()}
    rows = [{name: row.get(name) for name in columns} for row in rows]
    return pl.DataFrame(rows, schema=schema).with_row_index(PLACE).cast({PLACE: pl.Int64})


def decoded(uri: str, columns: Mapping[str, pl.DataType]) -> Iterator[Decoded]:
    decoder = decoder_for(Json(), StreamSchema.from_columns(columns))
    for split in open_source(uri).splits(1):
        for chunk in read_chunks(split.open(SOURCE, 0, split.bookmark), 0, 1 << 20):
            yield decoder.decode(chunk)


def kept(columns: Mapping[str, Sent]) -> dict[str, Sent]:
    """Those of *columns* that are not refused."""
    return {name: one for name, one in columns.items() if one.code is None}


def check(columns: Mapping[str, Sent], rows: Sequence[Mapping[str, object]], sink: Sink, uri: str) -> None:
    """What *sink* wrote of *columns* comes back from *uri* as they say."""
    frame = frame_of(columns, rows)
    assert not asyncio.run(write(sink, frame))
    read = {PLACE: pl.Int64(), **{name: one.read or one.dtype for name, one in columns.items()}}
    back = rows_from(uri, read).sort(PLACE)
    back = back.select(PLACE, *(one.seen(back[name]).alias(name) for name, one in columns.items()))
    wanted = frame.select(PLACE, *(one.back(frame[name]).alias(name) for name, one in columns.items()))
    assert_frame_equal(back, wanted, check_exact=True)


def refused_with_their_codes(columns: Mapping[str, Sent], data: st.DataObject, sink: Sink) -> None:
    """*sink* refuses a row with a value of each of *columns* that has a code."""
    columns = {name: one for name, one in columns.items() if one.code is not None}
    rows = [{name: data.draw(one.values)} for name, one in columns.items()]
    assert asyncio.run(write(sink, frame_of(columns, rows))) == Counter(one.code for one in columns.values())


def rows_from(uri: str, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The rows at *uri* for a stream with *columns*; none is refused."""
    found = [*decoded(uri, columns)]
    assert not any(len(one.rejects) for one in found), [one.rejects.frame for one in found]
    return pl.concat([user_columns(one.frame) for one in found])


Reads: TypeAlias = Mapping[str, tuple[Found, pl.DataType]]
"""Columns that another program filled, and the type that each is read as."""


def reads_of(lines: Sequence[Line]) -> Reads:
    kinds = [one for line in lines for one in line.found]
    return {
        f"c{place}_{at}": (one, dtype) for place, one in enumerate(kinds) for at, dtype in enumerate(one.read)
    }


def left_there(reads: Reads) -> st.SearchStrategy[list[dict[str, object]]]:
    """Rows of the values that there are."""
    return st.lists(
        st.fixed_dictionaries({name: one.values for name, (one, _) in reads.items()}), min_size=3, max_size=6
    )


def check_found(reads: Reads, rows: Sequence[Mapping[str, object]], uri: str) -> None:
    """*rows*, which another program left at *uri*, are read as *reads* say."""
    wanted = {
        column: pl.Series(column, [made(one, dtype, row[column]) for row in rows], dtype)
        for column, (one, dtype) in reads.items()
    }
    back = rows_from(uri, {column: dtype for column, (_, dtype) in reads.items()})
    assert_frame_equal(back, pl.DataFrame(wanted), check_exact=True)


def made(found: Found, dtype: pl.DataType, value: object) -> object:
    return None if value is None else found.read[dtype](value)


SOME: Mapping[type[pl.DataType], pl.DataType] = {
    pl.List: pl.List(pl.Int64()),
    pl.Array: pl.Array(pl.Int64(), 2),
    pl.Map: pl.Map(pl.String(), pl.Int64()),
    pl.Struct: pl.Struct({"a": pl.Int64()}),
    pl.Enum: pl.Enum(["a"]),
    pl.Decimal: pl.Decimal(20, 2),
    pl.Datetime: pl.Datetime("us"),
    pl.Duration: pl.Duration("us"),
}


def all_types(kind: type[pl.DataType] = pl.DataType) -> Iterator[type[pl.DataType]]:
    """Those of polars that a column can have, but for names that users give to them (extensions)."""
    for one in kind.__subclasses__():
        yield from all_types(one)
        ours = one.__module__ == pl.Int8.__module__ and not issubclass(one, pl.BaseExtension)
        if ours and not one.__subclasses__():
            yield one


def taken(sink: Callable[[], Sink]) -> set[type[pl.DataType]]:
    """The kinds of columns that *sink* takes, where it makes the table."""
    kinds = set()
    for kind in all_types():
        try:
            sink().check(pl.Schema({"id": pl.Int64(), "v": some(kind)}))
        except BadConfig:
            continue
        kinds.add(kind)
    return kinds


def some(kind: type[pl.DataType]) -> pl.DataType:
    """A type of that *kind*."""
    return SOME[kind] if kind in SOME else kind()
