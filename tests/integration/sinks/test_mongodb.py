"""What the MongoDB sink does beyond the suite's laws: types, keys, indexes, hung transactions, kill -9."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from bson import Decimal128
from pymongo import MongoClient
from pymongo.database import Database

from streamcore.contracts import FlushReason
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.sinks.fence import application_name
from streamcore.sinks.mongodb import MongoDB
from streamcore.testing.sink_world import COLUMNS, ORDERS, World, batches_of, deliver, frame_of
from tests.conformance.mongo_targets import ProxiedMongoTarget
from tests.services.mongo import MongoServer
from tests.services.native import free_ports

_numbers = itertools.count()


@pytest.fixture
def database(mongo: MongoServer) -> Iterator[Database[dict[str, object]]]:
    """An empty database."""
    with mongo.client() as client:
        name = f"sink-{next(_numbers)}"
        client.drop_database(name)
        yield client[name]
        client.drop_database(name)


@pytest.fixture
def sink(mongo: MongoServer, database: Database[dict[str, object]]) -> MongoDB:
    return MongoDB("rows", mongo.uri(database.name), create=True)


class _Found:
    """A target that is only looked at by the test."""

    def __init__(self, sink: MongoDB) -> None:
        self.sink = sink


def write(sink: MongoDB, frame: pl.DataFrame, key: tuple[str, ...] = ()) -> World:
    """Write *frame*; the world knows which rows were refused."""
    world = World(_Found(sink), frame.schema, key)  # type: ignore[arg-type]

    async def run() -> None:
        writer = await world.writer()
        try:
            start = (await writer.open({ORDERS: 0}))[ORDERS]
            await deliver(writer, batches_of(frame, [], ORDERS, first=start), FlushReason.END)
        finally:
            await writer.close()

    asyncio.run(run())
    return world


UTC = dt.timezone.utc
DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123000)
TYPES: Mapping[str, tuple[pl.DataType, object, object]] = {
    "i8": (pl.Int8(), -7, -7),
    "u32": (pl.UInt32(), 2**32 - 1, 2**32 - 1),
    "i64": (pl.Int64(), 2**63 - 1, 2**63 - 1),
    "f32": (pl.Float32(), 0.5, 0.5),
    "f64": (pl.Float64(), 0.1, 0.1),
    "yes": (pl.Boolean(), True, True),
    "text": (pl.String(), "Zoë\0", "Zoë\0"),
    "enum": (pl.Enum(["a", "b"]), "b", "b"),
    "bytes": (pl.Binary(), b"\x00\xff", b"\x00\xff"),
    "day": (pl.Date(), DAY, dt.datetime(2024, 2, 29)),
    "time": (pl.Time(), dt.time(1, 2, 3, 4), "01:02:03.000004"),
    "at": (pl.Datetime("us"), NOON, NOON),
    "utc": (pl.Datetime("us", "UTC"), NOON.replace(tzinfo=UTC), NOON),
    "zone": (pl.Datetime("ns", "Asia/Tokyo"), NOON.replace(tzinfo=UTC), NOON),
    "span": (pl.Duration("us"), dt.timedelta(1, 2, 3), "P1DT2.000003S"),
    "price": (pl.Decimal(20, 2), Decimal("-1.10"), Decimal128("-1.10")),
    "list": (pl.List(pl.Date()), [DAY, None], [dt.datetime(2024, 2, 29), None]),
    "deep": (
        pl.Struct({"a": pl.List(pl.Datetime("us")), "b": pl.Decimal(9, 1)}),
        {"a": [NOON], "b": Decimal("2.5")},
        {"a": [NOON], "b": Decimal128("2.5")},
    ),
    "nothing": (pl.String(), None, None),
}


def test_every_type_arrives(sink: MongoDB, database: Database[dict[str, object]]) -> None:
    columns = pl.Schema({name: dtype for name, (dtype, _, _) in TYPES.items()})
    row = {name: value for name, (_, value, _) in TYPES.items()}
    world = write(sink, pl.DataFrame([row, dict.fromkeys(row)], schema=columns))
    assert not world.refused
    full, empty = database.rows.find({}, {"_id": 0})
    assert full == {name: found for name, (_, _, found) in TYPES.items()}
    assert set(empty.values()) == {None}


@pytest.mark.parametrize(
    ("dtype", "values", "code"),
    [
        (pl.UInt64(), [2**63, 1], "range"),
        (pl.Decimal(38, 0), [Decimal("1" * 35), Decimal(1)], "range"),
        (pl.Datetime("us"), [dt.datetime(2026, 1, 1, 0, 0, 0, 1), NOON], "precision"),
        (pl.List(pl.Datetime("us")), [[dt.datetime(2026, 1, 1, 0, 0, 0, 1)], [NOON]], "precision"),
    ],
)
def test_a_value_that_would_be_changed_is_refused(
    sink: MongoDB, database: Database[dict[str, object]], dtype: pl.DataType, values: list[object], code: str
) -> None:
    world = write(sink, pl.DataFrame({"v": pl.Series(values, dtype=dtype)}))
    assert (list(world.refused), world.codes) == ([(ORDERS, 0, 0)], {code})
    assert database.rows.count_documents({}) == 1


def test_times_are_cut_on_request(sink: MongoDB, database: Database[dict[str, object]]) -> None:
    frame = pl.DataFrame({"at": [dt.datetime(2026, 1, 1, 0, 0, 0, 1999)]})
    assert not write(replace(sink, cut_times=True), frame).refused
    assert [row["at"] for row in database.rows.find()] == [dt.datetime(2026, 1, 1, 0, 0, 0, 1000)]


def test_rows_of_one_unique_value_within_a_batch_leave_the_first(
    sink: MongoDB, database: Database[dict[str, object]]
) -> None:
    """Each alone would be taken: the server has to see them together."""
    database.rows.create_index("name", unique=True)
    frame = pl.DataFrame({"id": range(500), "name": [f"n{i % 450}" for i in range(500)]})
    world = write(sink, frame)
    assert {offset for _, offset, _ in world.refused} == set(range(450, 500))
    assert world.codes == {"duplicate_key"}
    assert sorted(row["id"] for row in database.rows.find()) == list(range(450))


def test_a_document_beyond_the_servers_limit_is_refused(
    sink: MongoDB, database: Database[dict[str, object]]
) -> None:
    world = write(sink, pl.DataFrame({"id": [1, 2, 3], "text": ["a", "x" * 17_000_000, "b"]}))
    assert (list(world.refused), world.codes) == ([(ORDERS, 1, 0)], {"too_large"})
    assert [row["id"] for row in database.rows.find()] == [1, 3]


def test_an_upsert_leaves_other_fields_alone_and_keys_may_be_the_id(
    sink: MongoDB, database: Database[dict[str, object]]
) -> None:
    database.rows.insert_one({"_id": 1, "name": "old", "other": 5})
    keyed = replace(sink, key="_id")
    write(keyed, pl.DataFrame({"_id": [1, 2, 1], "name": ["a", "b", "c"]}), ("_id",))
    assert list(database.rows.find().sort("_id")) == [
        {"_id": 1, "name": "c", "other": 5},
        {"_id": 2, "name": "b"},
    ]


def test_a_version_leaves_the_fields_that_are_not_updated_as_they_are(
    sink: MongoDB, database: Database[dict[str, object]]
) -> None:
    """Also where the document lacks them; with the key alone it looks like one that is being made."""
    database.rows.insert_many([{"_id": 1}, {"_id": 2, "n": 9}, {"_id": 3, "n": 1, "name": "old"}])
    frame = pl.DataFrame({"_id": [1, 2, 3, 4], "n": [5, 5, 5, 5], "name": ["new"] * 4})
    write(replace(sink, key="_id", update="n", version="n"), frame, ("_id",))
    assert list(database.rows.find().sort("_id")) == [
        {"_id": 1, "n": 5},
        {"_id": 2, "n": 9},
        {"_id": 3, "n": 5, "name": "old"},
        {"_id": 4, "name": "new", "n": 5},
    ]


@pytest.mark.parametrize("version", [None, "n"])
def test_a_refused_row_takes_no_later_one_of_its_key_with_it(
    sink: MongoDB, database: Database[dict[str, object]], version: str | None
) -> None:
    """What the row that is made has of the first one is no fault of the last one."""
    database.create_collection("rows", validator={"name": {"$ne": "forbidden"}})
    frame = pl.DataFrame({"_id": [1, 1, 2], "n": [1, 2, 1], "name": ["forbidden", "good", "good"]})
    world = write(replace(sink, key="_id", update="n", version=version), frame, ("_id",))
    assert (list(world.refused), world.codes) == ([(ORDERS, 0, 0)], {"validation"})
    assert list(database.rows.find().sort("_id")) == [
        {"_id": 1, "name": "good", "n": 2},
        {"_id": 2, "name": "good", "n": 1},
    ]


def test_a_key_needs_its_unique_index(sink: MongoDB, database: Database[dict[str, object]]) -> None:
    database.create_collection("rows")
    database.rows.create_index("id")
    keyed = replace(sink, key=["id", "name"], create=False)
    with pytest.raises(Permanent, match=r"no unique index.*create=True"):
        write(keyed, frame_of(range(3)), ("id", "name"))
    assert not write(replace(keyed, create=True), frame_of([1, 2]).fill_null("x"), ("id", "name")).refused


def test_what_is_missing_or_wrong_is_said_before_a_row_is_read(
    sink: MongoDB, database: Database[dict[str, object]]
) -> None:
    with pytest.raises(BadConfig, match=r"no collection 'rows'.*create=True"):
        write(replace(sink, create=False), frame_of([]))
    for name in ("a.b", "$a", ""):
        with pytest.raises(BadConfig, match="name of a field"):
            sink.check(pl.Schema({name: pl.Int64}))
    for bad in ("", "a$b", "system.users"):
        with pytest.raises(BadConfig, match="collection's name"):
            MongoDB(bad)
    plan = replace(sink, key="id").plan(COLUMNS)
    assert plan[1] == "db.getCollection('rows').createIndex({'id': 1}, {unique: true})"


def test_who_cannot_connect_learns_why_and_no_password_is_shown(sink: MongoDB) -> None:
    wrong = replace(sink, url=sink.url.replace("mongopass", "s3cret"))
    with pytest.raises(Permanent, match="AuthenticationFailed") as refused:
        write(wrong, frame_of([]))
    (port,) = free_ports(1)
    away = MongoDB("rows", f"mongodb://u:s3cret@127.0.0.1:{port}/x?serverSelectionTimeoutMS=300")
    with pytest.raises(Transient, match="no server can be reached") as unreachable:
        write(away, frame_of([]))
    assert "s3cret" not in f"{refused.value}{unreachable.value}{wrong!r}"


def test_an_heir_ends_the_transaction_that_a_dead_owner_left_open(
    sink: MongoDB, mongo: MongoServer, database: Database[dict[str, object]]
) -> None:
    """A server keeps a transaction whose client is gone for a minute, and what it holds with it."""
    write(sink, frame_of(range(3)))
    name = application_name("conformance", sink.name, "worker-1")
    with MongoClient[dict[str, object]](sink.url, appname=name) as dead:
        session = dead.start_session()
        session.start_transaction()
        place = dead[database.name].streamcore_positions
        assert place.update_one({}, {"$set": {"next_offset": 99}}, session=session).matched_count == 1
        began = time.monotonic()
        write(sink, frame_of(range(3, 5)))
        assert time.monotonic() - began < 30
        assert [row["id"] for row in database.rows.find()] == list(range(5))


def test_a_commit_whose_reply_is_lost_writes_once(mongo: MongoServer) -> None:
    async def run() -> None:
        target = ProxiedMongoTarget(mongo)
        world = World(target, COLUMNS)
        await target.start()
        try:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            for at in range(0, 30, 10):
                await deliver(writer, batches_of(frame_of(range(at, at + 10)), [], ORDERS, first=at))
                target.proxy.lose_reply_to(b"commitTransaction")
                while True:
                    try:
                        assert await writer.flush(FlushReason.END) == {ORDERS: at + 10}
                        break
                    except Transient:
                        continue
            assert target.proxy.lost == 3
            assert sorted((await target.rows())["id"].to_list()) == list(range(30))
            await writer.close()
        finally:
            await target.close()

    asyncio.run(run())


MODULE = """
import streamcore as sc
topology = sc.Topology("mongo-out")
rows = topology.stream("rows", {"id": "int64", "name": "string"})
rows.to(sc.sinks.MongoDB("rows", create=True))
"""


@pytest.mark.parametrize("point", ["mongodb.before_commit", "mongodb.after_commit"])
def test_a_replay_killed_around_its_commits_writes_each_row_once(
    sink: MongoDB, database: Database[dict[str, object]], tmp_path: Path, point: str
) -> None:
    (tmp_path / "out.py").write_text(MODULE)
    frame = pl.DataFrame({"id": range(6_000), "name": ["x" * 50] * 6_000})
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=1_000)
    command = [sys.executable, "-m", "streamcore.cli", "replay", "out.py", "--from", "rows=rows.parquet"]
    environment = {
        **os.environ,
        "MONGODB_URL": sink.url,
        "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "65536",
    }
    for nth in (1, 1, 0):
        crash = {"STREAMCORE_CRASH_POINT": f"{point}:{nth}"} if nth else {}
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment | crash,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode == 0) == (not nth), done.stderr
    ids = [row["id"] for row in database.rows.find({}, {"id": 1})]
    assert sorted(ids) == list(range(6_000))
