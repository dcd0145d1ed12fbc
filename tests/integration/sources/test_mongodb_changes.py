"""MongoDB's change streams: what was there joins them, drops, servers that restart or are silent, kill -9."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from streamcore.contracts.unbounded import Polled, UnboundedReader
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.runtime.live.records import check_fits
from streamcore.sources.catalogue import open_unbounded
from streamcore.testing.unbounded import reader_gives, reading
from streamcore.topology import Topology
from tests.faults.processes import WorkerProcess
from tests.faults.proxy import Proxy
from tests.integration.sources.test_polling import MODULE, rows_in, until
from tests.services.mongo import MongoServer, start

Documents = Database[dict[str, object]]


@pytest.fixture
def uri(mongo: MongoServer) -> str:
    """Of an empty database, with options of what is read of it."""
    return f"{mongo.fresh_database()}&collection=users&changes=test&every=10ms"


@pytest.fixture
def database(uri: str) -> Iterator[Documents]:
    with MongoClient[dict[str, object]](plain(uri)) as client:
        yield client.get_default_database()


def plain(uri: str) -> str:
    return uri.partition("&collection")[0]


def rows(found: list[Polled]) -> list[object]:
    """What came, in order: documents, and keys of those that are gone in a list."""
    told: list[object] = []
    for part in (part for one in found for part in one.parts):
        if part.deleted:
            assert part.chunk.frame is not None
            told += [list(row) for row in part.chunk.frame.rows()]
        else:
            told += [orjson.loads(value or b"") for value in part.chunk.values()]
    return told


def next_rows(reader: UnboundedReader, count: int) -> list[object]:
    found: list[object] = []
    while len(found) < count:
        found += rows([reader_gives(reader, 1 << 20)])
    return found


def poll_on(reader: UnboundedReader) -> None:
    """Poll until it raises, or for a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        reader.poll(1 << 20, time.time())


def test_what_was_there_is_of_one_moment_and_every_change_behind_it_comes(
    database: Documents, uri: str
) -> None:
    database.users.insert_many([{"_id": n, "v": 0} for n in range(100)])
    with reading(open_unbounded(uri)) as reader:
        first = reader_gives(reader, 10 * 100)
        database.users.update_one({"_id": 99}, {"$set": {"v": 1}})
        database.users.delete_one({"_id": 98})
        database.users.insert_one({"_id": 1000, "v": 2})
    read = len(rows([first]))
    assert 0 < read < 98
    with reading(open_unbounded(uri), first.bookmark) as later:
        found = rows(polled_changes(later, 100 - read + 3))
    assert found == [
        *({"_id": n, "v": 0} for n in range(read, 100)),
        {"_id": 99, "v": 1},
        [98],
        {"_id": 1000, "v": 2},
    ]


def polled_changes(reader: UnboundedReader, count: int) -> list[Polled]:
    found: list[Polled] = []
    while sum(len(rows([one])) for one in found) < count:
        found.append(reader_gives(reader, 1 << 20))
    return found


def test_a_moment_that_the_server_has_not_any_more_is_read_as_it_is_then(
    database: Documents, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What has changed comes once more, and nothing is missing."""
    database.users.insert_many([{"_id": n, "v": 0} for n in range(100)])
    with reading(open_unbounded(f"{uri}&dropped=skip")) as reader:
        found = [reader_gives(reader, 10 * 100)]
        database.users.update_one({"_id": 99}, {"$set": {"v": 1}})
        database.users.rename("aside")  # of a collection the server has moments behind its last change only
        database.aside.rename("users")
        found += polled_changes(reader, 101 - len(rows(found)))
    assert rows(found)[-2:] == [{"_id": 99, "v": 1}] * 2
    assert Counter(row["_id"] for row in rows(found) if isinstance(row, dict)) == {
        **dict.fromkeys(range(99), 1),
        99: 2,
    }
    assert "does not have the moment any more" in caplog.text


def test_ids_of_any_type_come_in_the_order_of_the_server_and_go_by_their_json(
    database: Documents, uri: str
) -> None:
    oid = ObjectId()
    ids: list[object] = [1, 2.5, "1", {"a": 1}, oid, True]
    database.users.insert_many([{"_id": _id} for _id in ids])
    with reading(open_unbounded(uri)) as reader:
        there = rows(polled_changes(reader, len(ids)))
        for _id in ids:
            database.users.delete_one({"_id": _id})
        gone = rows(polled_changes(reader, len(ids)))
    assert there == [{"_id": _id if _id is not oid else str(oid)} for _id in ids]
    assert gone == [[1], [2.5], ["1"], ['{"a":1}'], [str(oid)], [True]]


def test_looked_up_documents_are_those_of_now_and_images_those_of_then(database: Documents, uri: str) -> None:
    database.create_collection("users", changeStreamPreAndPostImages={"enabled": True})
    with reading(open_unbounded(f"{uri}&begin=now")) as reader:
        start = kept(reader)
    database.users.insert_one({"_id": 1, "v": 0})
    database.users.update_one({"_id": 1}, {"$set": {"v": 1}})
    database.users.replace_one({"_id": 1}, {"v": 2})
    database.users.update_one({"_id": 1}, {"$set": {"v": 3}})
    told = {}
    for way in ("lookup", "images"):
        with reading(open_unbounded(f"{uri}&documents={way}"), start) as reader:
            told[way] = [row["v"] for row in next_rows(reader, 4) if isinstance(row, dict)]
    assert told == {"lookup": [0, 3, 2, 3], "images": [0, 1, 2, 3]}
    database.users.delete_one({"_id": 1})
    with reading(open_unbounded(uri), start) as reader:
        assert next_rows(reader, 3) == [{"_id": 1, "v": 0}, {"_id": 1, "v": 2}, [1]], "nothing to look up"
    with reading(open_unbounded(f"{uri}&ops=insert"), start) as reader:
        assert next_rows(reader, 1) == [{"_id": 1, "v": 0}]


def kept(reader: UnboundedReader) -> bytes:
    """The bookmark that is to be kept though there are no rows."""
    one = reader.poll(1 << 20, 0.0)
    assert one is not None
    assert one.keep
    assert not one.parts
    assert reader.poll(1 << 20, 59.0) is None
    again = reader.poll(1 << 20, 61.0)
    assert again is not None
    assert again.keep
    return one.bookmark


def test_a_document_without_its_image_is_refused_and_its_neighbours_pass(
    database: Documents, uri: str
) -> None:
    database.create_collection("users", changeStreamPreAndPostImages={"enabled": True})
    with reading(open_unbounded(f"{uri}&documents=images&begin=now")) as reader:
        kept(reader)
        database.command("collMod", "users", changeStreamPreAndPostImages={"enabled": False})
        database.users.insert_one({"_id": 1})
        database.users.update_one({"_id": 1}, {"$set": {"v": 1}})
        database.users.insert_one({"_id": 2, "bad": float("nan")})
        database.users.insert_one({"_id": 3})
        found = polled_changes(reader, 2)
    rejects = [p.chunk.rejects.frame["code"].to_list() for one in found for p in one.parts]
    assert rows(found) == [{"_id": 1}, {"_id": 3}]
    assert [code for codes in rejects for code in codes] == ["no_image", "range"]


def test_a_drop_ends_it_behind_the_rows_before_unless_it_may_be_passed_over(
    database: Documents, uri: str
) -> None:
    with reading(open_unbounded(f"{uri}&dropped=skip&begin=now")) as reader:
        start = kept(reader)
    database.users.insert_one({"_id": 1})
    database.users.drop()
    database.other.insert_one({"_id": 2})
    database.other.rename("users")
    database.users.insert_one({"_id": 3})
    with reading(open_unbounded(uri), start) as reader:
        assert next_rows(reader, 1) == [{"_id": 1}]
        says = r"the collection was dropped.*drop users.*dropped=skip"
        with pytest.raises(Permanent, match=says) as stopped:
            poll_on(reader)
    assert "mongopass" not in str(stopped.value)
    with reading(open_unbounded(f"{uri}&dropped=skip"), start) as reader:
        assert next_rows(reader, 2) == [{"_id": 1}, {"_id": 3}]
    whole = uri.replace("collection=users", "collection=*")
    with reading(open_unbounded(f"{whole}&dropped=skip&begin=now")) as reader:
        kept(reader)
        database.client.drop_database(database.name)
        database.users.insert_one({"_id": 4})
        assert next_rows(reader, 1) == [{"_id": 4, "collection": "users"}]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("collection=usres&changes=x", "did you mean 'users'"),
        ("collection=users", r"add changes="),
        ("collection=users&changes=x&begin=soon", "begin: no time"),
        ("collection=users&changes=x&documents=pre", "option documents"),
        ("collection=users&changes=x&ops=insert,upsert", "option ops"),
        ("collection=users&changes=x&documents=images", r"keeps no images.*collMod: 'users'"),
        ("collection=users&changes=x&tsl=true", "tsl"),
    ],
)
def test_mistakes_are_found_before_a_document_is_read(
    database: Documents, uri: str, options: str, says: str
) -> None:
    database.users.insert_one({"_id": 1})
    with pytest.raises(BadConfig, match=says):
        open_unbounded(f"{plain(uri)}&{options}")


def test_a_table_of_another_key_can_not_be_told_what_is_gone(database: Documents, uri: str) -> None:
    database.users.insert_one({"_id": 1})
    topology = Topology("t")
    by_name = topology.table("users", {"_id": "int64", "name": "string"}, key="name")
    with pytest.raises(BadConfig, match=r"does not tell the key of 'users'.*got 'name', allowed: _id"):
        check_fits(by_name.node, open_unbounded(uri))
    check_fits(by_name.node, open_unbounded(f"{uri}&ops=insert,update"))


def test_a_server_that_is_killed_and_comes_back_loses_and_doubles_nothing(own_mongo: MongoServer) -> None:
    base = own_mongo.fresh_database()
    uri = f"{base}&serverSelectionTimeoutMS=500&collection=users&changes=x&every=10ms"
    with MongoClient[dict[str, object]](base) as client:
        users = client.get_default_database().users
        users.insert_many([{"_id": n} for n in range(10)])
        reader = open_unbounded(uri).open(b"")
        last = polled_changes(reader, 10)[-1].bookmark
        users.insert_one({"_id": 10})
        own_mongo.kill()
        # The driver may still take the server for a good one when it goes there again.
        refused = r"(no server can be reached|the connection failed) \(connection (refused|closed|reset)\)"
        with pytest.raises(Transient, match=refused):
            poll_on(reader)
        reader.close()
        own_mongo.start()
        users.insert_one({"_id": 11})
        with reading(open_unbounded(uri), last) as later:
            assert next_rows(later, 2) == [{"_id": 10}, {"_id": 11}]
            own_mongo.stop()
            own_mongo.start()
            users.insert_one({"_id": 12})
            assert next_rows(later, 1) == [{"_id": 12}], "the stream itself goes on"


async def test_a_server_that_is_silent_is_an_error_within_its_deadline(
    mongo: MongoServer, database: Documents, uri: str
) -> None:
    database.users.insert_one({"_id": 1})
    host, _, port = mongo.address.rpartition(":")
    async with Proxy(host, int(port)) as proxy:
        times = "serverSelectionTimeoutMS=700&connectTimeoutMS=300&socketTimeoutMS=600"
        there = f"{uri}&{times}".replace(mongo.address, f"127.0.0.1:{proxy.port}")
        source = await asyncio.to_thread(open_unbounded, there)
        reader = await asyncio.to_thread(source.open, b"")
        await asyncio.to_thread(next_rows, reader, 1)
        proxy.freeze()
        began = time.monotonic()
        with pytest.raises(Transient, match=rf"127.0.0.1:{proxy.port}"):
            await asyncio.to_thread(poll_on, reader)
        assert time.monotonic() - began < 20
        proxy.thaw()
        await asyncio.to_thread(reader.close)


@pytest.fixture
def hasty_mongo(mongo: MongoServer) -> Iterator[MongoServer]:
    """A server of its own that cuts its oplog, of 64 MB, each second and not each minute."""
    server = start(syncdelay=1)
    yield server
    server.close()


def test_a_place_that_the_oplog_has_not_any_more_is_told_with_the_way_out(hasty_mongo: MongoServer) -> None:
    base = hasty_mongo.fresh_database()
    uri = f"{base}&collection=users&changes=x"
    with MongoClient[dict[str, object]](base) as client:
        database = client.get_default_database()
        database.users.insert_one({"_id": 1})
        with reading(open_unbounded(f"{uri}&begin=now")) as reader:
            start = kept(reader)
        database.users.insert_one({"_id": 2})
        first = client.local.oplog.rs.find_one(sort=[("$natural", 1)])
        deadline = time.monotonic() + 100
        while client.local.oplog.rs.find_one(sort=[("$natural", 1)]) == first:
            database.other.insert_many([{"text": "x" * 1_000_000} for _ in range(10)])
            assert time.monotonic() < deadline
        with (
            reading(open_unbounded(uri), start) as reader,
            pytest.raises(Permanent, match=r"oplog no longer holds.*ChangeStreamHistoryLost.*another name"),
        ):
            reader_gives(reader, 1 << 20)


@pytest.mark.slow
def test_a_worker_that_is_killed_at_every_step_has_each_change_once(
    database: Documents, uri: str, tmp_path: Path
) -> None:
    (tmp_path / "people.py").write_text(MODULE.replace("NAME", "people"))
    written: set[tuple[int, int]] = set()

    def write(start: int, count: int) -> None:
        for n in range(start, start + count):
            database.users.insert_one({"_id": n, "id": n, "name": "x", "version": 1})
        written.update((n, 1) for n in range(start, start + count))

    def worker(crash: str) -> WorkerProcess:
        return WorkerProcess(
            ["worker", "people.py", "--from", f"users={uri}&ops=insert,update"],
            log=tmp_path / "worker.log",
            cwd=tmp_path,
            environment={"STREAMCORE_CRASH_POINT": crash, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "4096"},
        )

    points = ["intake.before_commit:2", "live.appended:9"]
    for run, point in enumerate(points):
        write(run * 10_000, 100)
        with worker(point) as process:
            begun, extra = time.monotonic(), 0
            while process.code is None and time.monotonic() - begun < 60:
                write(run * 10_000 + 1_000 + extra, 10)
                extra += 10
                time.sleep(0.02)
            assert process.code == -9, process.output()
    write(100_000, 50)
    with worker("") as process:
        until(lambda: len(rows_in(tmp_path)) >= len(written), "all rows")
        process.terminate()
        assert process.wait(60) == 0, process.output()
    assert rows_in(tmp_path) == Counter(written), "none lost, none twice"


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
@pytest.mark.parametrize("way", ["changes=test", "poll=version&settle=0s"])
def test_the_server_sees_the_driver_that_was_asked_for_and_closing_leaves_no_thread(
    database: Documents, uri: str, way: str, driver: str
) -> None:
    database.users.create_index([("version", 1), ("_id", 1)])
    database.users.insert_one({"_id": 1, "version": 1})
    before = by_motor(database)
    with reading(open_unbounded(f"{plain(uri)}&collection=users&{way}&driver={driver}")) as reader:
        assert next_rows(reader, 1) == [{"_id": 1, "version": 1}]
        assert bool(by_motor(database) - before) == (driver == "motor")
    assert not [one for one in threading.enumerate() if one.name == "motor"]


def by_motor(database: Documents) -> set[object]:
    """The connections to the server that are motor's."""
    stages = [{"$currentOp": {"allUsers": True, "idleConnections": True}}]
    with database.client.admin.aggregate(stages) as found:
        told = [one for one in found if "clientMetadata" in one]
    return {one["connectionId"] for one in told if "Motor" in one["clientMetadata"]["driver"]["name"]}
