"""Each line of the tables of types holds on the real server: what the sink sends there comes back by the
source as the table says, and so does what another program left there.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from batch_adapters.catalogue import open_source
from streamcore.batch import user_columns
from streamcore.contracts import Decoded, Sink
from streamcore.errors import BadConfig
from streamcore.formats import Json, decoder_for
from streamcore.schema import StreamSchema
from streamcore.sinks import MongoDB, RedisStream
from streamcore.testing.sources import SOURCE, read_chunks
from tests.conformance.mongo_types import MONGODB, MONGODB_SOURCE
from tests.conformance.redis_types import REDIS
from tests.conformance.type_tables import Found, Line, Sent
from tests.integration.sinks.delivery import write
from tests.services.mongo import MongoServer
from tests.services.redis import RedisServer

_numbers = itertools.count()
PLACE = "place"
_AGAIN = 70
"""Pages of 200 documents and more are read another way than those of less."""
few = settings(deadline=None, max_examples=8)


def columns_of(lines: Sequence[Line]) -> dict[str, Sent]:
    return {name: one for line in lines for name, one in line.columns.items()}


def rows_of(columns: Mapping[str, Sent]) -> st.SearchStrategy[list[dict[str, object]]]:
    row = st.fixed_dictionaries({name: st.none() | one.values for name, one in columns.items()})
    again = st.sampled_from([1, _AGAIN])
    return st.builds(lambda rows, times: rows * times, st.lists(row, min_size=3, max_size=6), again)


def frame_of(columns: Mapping[str, Sent], rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    schema = {name: one.dtype for name, one in columns.items()}
    return pl.DataFrame(rows, schema=schema).with_row_index(PLACE).cast({PLACE: pl.Int64})


def decoded(uri: str, columns: Mapping[str, pl.DataType]) -> Iterator[Decoded]:
    decoder = decoder_for(Json(), StreamSchema.from_columns(columns))
    for split in open_source(uri).splits(1):
        for chunk in read_chunks(split.open(SOURCE, 0, split.bookmark), 0, 1 << 20):
            yield decoder.decode(chunk)


def check(lines: Sequence[Line], rows: Sequence[Mapping[str, object]], sink: Sink, uri: str) -> None:
    """What *sink* wrote comes back from *uri* as *lines* say."""
    columns = {name: one for name, one in columns_of(lines).items() if one.code is None}
    frame = frame_of(columns, rows)
    assert not asyncio.run(write(sink, frame))
    read = {PLACE: pl.Int64(), **{name: one.read or one.dtype for name, one in columns.items()}}
    found = [*decoded(uri, read)]
    assert not any(len(one.rejects) for one in found), [one.rejects.frame for one in found]
    back = pl.concat([user_columns(one.frame) for one in found]).sort(PLACE)
    back = back.select(PLACE, *(one.seen(back[name]).alias(name) for name, one in columns.items()))
    wanted = frame.select(PLACE, *(one.back(frame[name]).alias(name) for name, one in columns.items()))
    assert_frame_equal(back, wanted, check_exact=True)


@few
@given(rows=rows_of({name: one for name, one in columns_of(MONGODB).items() if one.code is None}))
def test_every_line_of_mongodb_is_there_and_back(mongo: MongoServer, rows: list[dict[str, object]]) -> None:
    name = f"sent_{next(_numbers)}"
    uri = mongo.uri("types")
    check(MONGODB, rows, MongoDB(name, uri, create=True), f"{uri}&collection={name}")


@few
@given(rows=rows_of({name: one for name, one in columns_of(REDIS).items() if one.code is None}))
def test_every_line_of_redis_is_there_and_back(redis: RedisServer, rows: list[dict[str, object]]) -> None:
    name, fields = f"types-{next(_numbers)}", ",".join([PLACE, *columns_of(REDIS)])
    check(REDIS, rows, RedisStream(name, redis.url), f"{redis.url}?stream={name}&fields={fields}")


@few
@given(st.data())
def test_what_mongodb_can_not_hold_is_refused_with_its_code(mongo: MongoServer, data: st.DataObject) -> None:
    columns = {name: one for name, one in columns_of(MONGODB).items() if one.code is not None}
    rows = [{name: data.draw(one.values)} for name, one in columns.items()]
    sink = MongoDB(f"refused_{next(_numbers)}", mongo.uri("types"), create=True)
    assert asyncio.run(write(sink, frame_of(columns, rows))) == Counter(one.code for one in columns.values())


@few
@given(data=st.data(), again=st.sampled_from([1, _AGAIN]))
def test_every_type_of_mongodb_is_read_as_its_line_says(
    mongo: MongoServer, data: st.DataObject, again: int
) -> None:
    name, kinds = f"found_{next(_numbers)}", [one for line in MONGODB_SOURCE for one in line.found]
    reads = {
        f"c{place}_{at}": (one, dtype) for place, one in enumerate(kinds) for at, dtype in enumerate(one.read)
    }
    values = st.fixed_dictionaries({column: one.values for column, (one, _) in reads.items()})
    rows = data.draw(st.lists(values, min_size=3, max_size=6)) * again
    with mongo.client() as client:
        client.types[name].insert_many([{"_id": place, **row} for place, row in enumerate(rows)])
    found = [
        *decoded(
            f"{mongo.uri('types')}&collection={name}", {column: dtype for column, (_, dtype) in reads.items()}
        )
    ]
    assert not any(len(one.rejects) for one in found), [one.rejects.frame for one in found]
    wanted = {
        column: pl.Series(column, [made(one, dtype, row[column]) for row in rows], dtype)
        for column, (one, dtype) in reads.items()
    }
    assert_frame_equal(pl.concat([user_columns(one.frame) for one in found]), pl.DataFrame(wanted))


def made(found: Found, dtype: pl.DataType, value: object) -> object:
    return None if value is None else found.read[dtype](value)


@settings(deadline=None, max_examples=3)
@given(data=st.data(), again=st.sampled_from([1, _AGAIN]))
def test_what_no_type_takes_is_a_dead_letter_of_each(
    mongo: MongoServer, data: st.DataObject, again: int
) -> None:
    for one in (found for line in MONGODB_SOURCE for found in line.found if found.refused):
        name = f"odd_{next(_numbers)}"
        rows = data.draw(st.lists(one.values, min_size=3, max_size=4)) * again
        with mongo.client() as client:
            client.types[name].insert_many([{"_id": place, "v": v} for place, v in enumerate(rows)])
        for dtype in one.refused:
            read = [*decoded(f"{mongo.uri('types')}&collection={name}", {"v": dtype})]
            assert [one.frame.height for one in read] == [0] * len(read), dtype
            assert sum(len(one.rejects) for one in read) == len(rows)


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


@pytest.mark.parametrize(
    ("lines", "sink"),
    [
        (MONGODB, lambda: MongoDB("rows", "mongodb://h/d")),
        (REDIS, lambda: RedisStream("rows", "redis://h")),
    ],
    ids=["mongodb", "redis"],
)
def test_the_types_that_a_sink_takes_are_those_of_its_table(
    lines: Sequence[Line], sink: Callable[[], Sink]
) -> None:
    taken = set()
    for kind in all_types():
        try:
            sink().check(pl.Schema({"id": pl.Int64(), "v": SOME[kind] if kind in SOME else kind()}))
        except BadConfig:
            continue
        taken.add(kind)
    assert taken == {type(one.dtype) for one in columns_of(lines).values()}
