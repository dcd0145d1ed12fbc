"""Each line of the tables of types holds on the real server: what the sink sends there comes back by the
source as the table says, and so does what another program left there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.contracts import Sink
from streamcore.sinks import MongoDB, RedisStream
from tests.conformance.mongo_types import MONGODB, MONGODB_SOURCE
from tests.conformance.redis_types import REDIS
from tests.conformance.type_round_trips import (
    AGAIN,
    PLACE,
    check,
    check_found,
    columns_of,
    decoded,
    kept,
    left_there,
    reads_of,
    refused_with_their_codes,
    rows_of,
    taken,
)  # fmt: skip
from tests.conformance.type_tables import Line
from tests.services.mongo import MongoServer
from tests.services.redis import RedisServer

_numbers = itertools.count()
few = settings(deadline=None, max_examples=8)


@few
@given(rows=rows_of(kept(columns_of(MONGODB))))
def test_every_line_of_mongodb_is_there_and_back(mongo: MongoServer, rows: list[dict[str, object]]) -> None:
    name = f"sent_{next(_numbers)}"
    uri = mongo.uri("types")
    check(kept(columns_of(MONGODB)), rows, MongoDB(name, uri, create=True), f"{uri}&collection={name}")


@few
@given(rows=rows_of(kept(columns_of(REDIS))))
def test_every_line_of_redis_is_there_and_back(redis: RedisServer, rows: list[dict[str, object]]) -> None:
    name, fields = f"types-{next(_numbers)}", ",".join([PLACE, *columns_of(REDIS)])
    sink = RedisStream(name, redis.url)
    check(kept(columns_of(REDIS)), rows, sink, f"{redis.url}?stream={name}&fields={fields}")


@few
@given(st.data())
def test_what_mongodb_can_not_hold_is_refused_with_its_code(mongo: MongoServer, data: st.DataObject) -> None:
    sink = MongoDB(f"refused_{next(_numbers)}", mongo.uri("types"), create=True)
    refused_with_their_codes(columns_of(MONGODB), data, sink)


@few
@given(rows=left_there(reads_of(MONGODB_SOURCE)), again=st.sampled_from([1, AGAIN]))
def test_every_type_of_mongodb_is_read_as_its_line_says(
    mongo: MongoServer, rows: list[dict[str, object]], again: int
) -> None:
    name, rows = f"found_{next(_numbers)}", rows * again
    with mongo.client() as client:
        client.types[name].insert_many([{"_id": place, **row} for place, row in enumerate(rows)])
    check_found(reads_of(MONGODB_SOURCE), rows, f"{mongo.uri('types')}&collection={name}")


@settings(deadline=None, max_examples=3)
@given(data=st.data(), again=st.sampled_from([1, AGAIN]))
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
    assert taken(sink) == {type(one.dtype) for one in columns_of(lines).values()}
