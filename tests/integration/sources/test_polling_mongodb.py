"""MongoDB by a mark: what is written late is not passed over, and who can't be read so is told why."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from bson import Int64
from pymongo import MongoClient
from pymongo.collection import Collection

from batch_adapters.catalogue import open_source
from streamcore.contracts.unbounded import Incremental, UnboundedReader
from streamcore.errors import BadConfig
from streamcore.sources.catalogue import open_unbounded
from streamcore.testing.unbounded import ids_of, polled, reading
from tests.services import mongo as mongo_server
from tests.services.mongo import READER, READER_PASSWORD, MongoServer

_numbers = itertools.count()
_INDEX = [("version", 1), ("_id", 1)]
Users = Collection[dict[str, object]]


@pytest.fixture
def uri(mongo: MongoServer) -> str:
    return mongo.uri(f"marks_{next(_numbers)}")


@pytest.fixture
def users(uri: str) -> Iterator[Users]:
    """A collection with the index of the mark."""
    with MongoClient[dict[str, object]](uri) as client:
        users = client.get_default_database().users
        users.create_index(_INDEX)
        yield users
        client.drop_database(client.get_default_database().name)


def user(i: int, version: object) -> dict[str, object]:
    return {"_id": i, "id": i, "name": f"name {i}", "version": version}


def ids_now(reader: UnboundedReader, polls: int = 20) -> list[int]:
    """The ids of some polls."""
    found = [reader.poll(1 << 20, 0.0) for _ in range(polls)]
    return [id for one in found if one is not None for id, _ in ids_of(one)]


def test_what_a_transaction_writes_late_is_not_passed_over(uri: str, users: Users) -> None:
    """The transaction whose document has the lower mark is committed last."""
    with reading(open_unbounded(f"{uri}&collection=users&poll=version&settle=0s&every=10ms")) as reader:
        with users.database.client.start_session() as late:
            late.start_transaction()
            users.insert_one(user(1, 1), session=late)
            users.insert_one(user(2, 2))
            assert ids_now(reader) == [], "the other may still commit a lower mark"
            late.commit_transaction()
        assert [id for one in polled(reader, 2) for id, _ in ids_of(one)] == [1, 2]


def test_a_run_with_columns_and_a_filter_shows_neither_mark_nor_id(uri: str, users: Users) -> None:
    users.insert_many([user(i, Int64(9 - i)) for i in range(10)])
    columns = 'columns=id&filter={"id": {"$lt": 5}}'
    source = open_source(f"{uri}&collection=users&mark=version&settle=0s&{columns}")
    assert isinstance(source, Incremental)
    assert source.columns() is None
    with reading(source.taken_in()) as reader:
        parts = [part for one in polled(reader, 5) for part in one.parts]
    assert [value for part in parts for value in part.chunk.values()] == [
        b'{"id":%d}' % i for i in (4, 3, 2, 1, 0)
    ]


def refused(uri: str, match: str, options: str = "collection=users&mark=version") -> None:
    with pytest.raises(BadConfig, match=match):
        open_source(f"{uri}&{options}")


def test_what_can_not_be_read_by_a_mark_is_told_before_a_row_is_read(uri: str, users: Users) -> None:
    refused(uri, r"no index of the mark.*createIndex\(\{'name': 1, _id: 1\}\)", "collection=users&mark=name")
    users.insert_one(user(1, None))
    refused(uri, "null or missing")
    users.replace_one({}, user(1, [2, 3]))
    refused(uri, "an array")
    users.replace_one({}, user(1, 2))
    users.drop_indexes()
    users.create_index(_INDEX, partialFilterExpression={"version": {"$gt": 1}})
    refused(uri, "no index of the mark")


def test_who_may_not_see_what_is_written_is_told(mongo: MongoServer) -> None:
    with mongo.client() as client:
        readable = client.readable.marked
        readable.create_index(_INDEX)
        readable.replace_one({"_id": 1}, user(1, 1), upsert=True)
    refused(
        mongo.uri("readable", READER, READER_PASSWORD),
        "clusterMonitor",
        "collection=marked&mark=version",
    )


@pytest.mark.slow
def test_a_server_by_itself_which_has_no_change_streams_is_polled() -> None:
    server = mongo_server.start(replSet=None)
    try:
        uri = server.uri("shop")
        with server.client() as client:
            client.shop.users.create_index(_INDEX)
            client.shop.users.insert_many([user(i, i) for i in range(3)])
            source = open_unbounded(f"{uri}&collection=users&poll=version&settle=0s&every=10ms")
            with reading(source) as reader:
                assert [id for one in polled(reader, 3) for id, _ in ids_of(one)] == [0, 1, 2]
                client.shop.users.update_one({"_id": 1}, {"$set": {"version": 7}})
                assert [id for one in polled(reader, 1) for id, _ in ids_of(one)] == [1]
        with pytest.raises(BadConfig, match="replica set"):
            open_unbounded(f"{uri}&collection=users&changes=all")
    finally:
        server.close()
