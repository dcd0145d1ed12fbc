"""MongoDB as a source: what is meant, clear errors, TLS, servers that do not answer, kill -9."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import polars as pl
import pytest
from bson import ObjectId
from pymongo.database import Database

from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.testing.sources import SOURCE, read_chunks, read_source, read_split
from tests.services.mongo import READER, READER_PASSWORD, MongoServer
from tests.services.native import free_ports

_numbers = itertools.count()


@pytest.fixture
def database(mongo: MongoServer) -> Iterator[Database[dict[str, object]]]:
    """An empty database."""
    with mongo.client() as client:
        name = f"source_{next(_numbers)}"
        client.drop_database(name)
        yield client[name]
        client.drop_database(name)


@pytest.fixture
def uri(mongo: MongoServer, database: Database[dict[str, object]]) -> str:
    return mongo.uri(database.name)


def documents(uri: str, parts: int = 1) -> list[dict[str, object]]:
    return [orjson.loads(record.value) for record in read_source(open_source(uri), parts)]  # type: ignore[arg-type]


def test_the_only_collection_is_meant_and_of_several_all_are_named(
    database: Database[dict[str, object]], uri: str
) -> None:
    with pytest.raises(BadConfig, match="no collection"):
        open_source(uri)
    database.users.insert_one({"_id": 7})
    assert documents(uri) == [{"_id": 7}]
    database.orders.insert_one({"_id": 8})
    with pytest.raises(BadConfig, match=r"orders, users.*collection=NAME"):
        open_source(uri)


def test_filter_and_columns_choose_what_is_read(database: Database[dict[str, object]], uri: str) -> None:
    ids = [ObjectId() for _ in range(300)]
    database.users.insert_many([{"_id": _id, "n": n, "deep": {"a": n, "b": 0}} for n, _id in enumerate(ids)])
    found = documents(f'{uri}&collection=users&filter={{"n": {{"$gte": 290}}}}&columns=n,deep.a', 3)
    assert found == [{"n": n, "deep": {"a": n}} for n in range(290, 300)]
    whole = documents(f'{uri}&collection=users&filter={{"_id": {{"$oid": "{ids[5]}"}}}}')
    assert whole == [{"_id": str(ids[5]), "n": 5, "deep": {"a": 5, "b": 0}}]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("collection=usres", "did you mean 'users'"),
        ("collection=adults", "a view has no index"),
        ('collection=users&filter={"n": {"$gtee": 1}}', r"filter.*\$gtee"),
        ("collection=users&filter={n: 1}", "filter"),
        ("collection=users&columns=a,a.b", "Path collision"),
        ("collection=users&tsl=true", "tsl"),
        ("collection=users&colums=a", "colums"),
    ],
)
def test_mistakes_are_found_before_a_row_is_read(
    database: Database[dict[str, object]], uri: str, options: str, says: str
) -> None:
    database.users.insert_one({"_id": 1})
    database.command("create", "adults", viewOn="users", pipeline=[])
    with pytest.raises(BadConfig, match=says):
        open_source(f"{uri}&{options}")


def test_large_documents_come_in_pages_of_bounded_size(
    database: Database[dict[str, object]], uri: str
) -> None:
    """The estimate of a page's rows is far too high here: documents at the end are large."""
    database.users.insert_many([{"_id": n} for n in range(5_000)])
    database.users.insert_many([{"_id": 10_000 + n, "text": "x" * 1_000_000} for n in range(40)])
    split = open_source(f"{uri}&collection=users").splits(1)[0]
    chunks = list(read_chunks(split.open(SOURCE, 0), 0, 1 << 20))
    assert sum(map(len, chunks)) == 5_040
    assert max(chunk.nbytes for chunk in chunks) < 1_100_000


def test_documents_that_are_there_all_the_while_come_once(
    database: Database[dict[str, object]], uri: str
) -> None:
    database.users.insert_many([{"_id": n, "n": 0} for n in range(400)])
    split = open_source(f"{uri}&collection=users").splits(1)[0]
    found: list[int] = []
    for chunk in read_chunks(split.open(SOURCE, 0), 0, 4_000):
        database.users.update_many({}, {"$inc": {"n": 1}, "$set": {"more": "x" * len(found)}})
        database.users.delete_one({"_id": 390})
        found += [orjson.loads(value)["_id"] for value in chunk.values() if value]
    assert found == [n for n in range(400) if n != 390]


def test_a_large_collection_is_cut_by_a_sample(database: Database[dict[str, object]], uri: str) -> None:
    database.users.insert_many([{"_id": n} for n in range(30_000)])
    splits = open_source(f"{uri}&collection=users").splits(3)
    counts = [len(read_split(split)) for split in splits]
    assert sum(counts) == 30_000
    assert min(counts) > 5_000


def test_who_may_not_or_cannot_connect_learns_why_and_no_password_is_shown(
    mongo: MongoServer, database: Database[dict[str, object]]
) -> None:
    database.users.insert_one({"_id": 1})
    wrong = mongo.uri(database.name, password="s3cret")
    with pytest.raises(Permanent, match=r"AuthenticationFailed.*authSource") as refused:
        open_source(wrong)
    stranger = mongo.uri(database.name, READER, READER_PASSWORD)
    with pytest.raises(Permanent, match=r"Unauthorized.*grant"):
        open_source(f"{stranger}&collection=users")
    (port,) = free_ports(1)
    with pytest.raises(Transient, match=r"no server can be reached \(connection refused\)"):
        open_source(f"mongodb://u:s3cret@127.0.0.1:{port}/x?serverSelectionTimeoutMS=500")
    with pytest.raises(BadConfig, match="names no database"):
        open_source(f"mongodb://u:s3cret@127.0.0.1:{port}")
    with pytest.raises(BadConfig, match="percent-encode") as odd:
        open_source("mongodb://u:s3c@ret:x@127.0.0.1:99/x")
    assert "s3c" not in f"{refused.value}{odd.value}"


def test_a_server_that_does_not_answer_is_an_error_within_its_deadline(database: object) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(Transient, match=rf"{address}.*timed out"):
            open_source(f"mongodb://{address}/x?serverSelectionTimeoutMS=700&connectTimeoutMS=300")
        assert time.monotonic() - began < 10


def test_over_verified_tls_and_not_without_the_authority(
    mongo: MongoServer, database: Database[dict[str, object]]
) -> None:
    if not mongo.ca:
        pytest.skip("the server has no TLS")
    database.users.insert_one({"_id": 1})
    assert documents(mongo.tls_uri(database.name)) == [{"_id": 1}]
    stranger = mongo.tls_uri(database.name).partition("&tlsCAFile")[0]
    with pytest.raises(Permanent, match="tlsCAFile"):
        open_source(f"{stranger}&serverSelectionTimeoutMS=2000")


MODULE = """
import streamcore as sc
topology = sc.Topology("mg")
users = topology.stream("users", {"id": "int64", "name": "string"})
users.to(sc.sinks.Parquet("out", roll_seconds=0.2))
"""


def test_a_replay_killed_at_any_moment_goes_on_behind_documents_that_moved(
    database: Database[dict[str, object]], uri: str, tmp_path: Path
) -> None:
    """Killed three times; between the runs documents are inserted below and above what was read."""
    database.users.insert_many([{"_id": n, "id": n, "name": "x" * 200} for n in range(20_000)])
    (tmp_path / "mg.py").write_text(MODULE)
    source = f"users={uri}&collection=users"
    command = [sys.executable, "-m", "streamcore.cli", "replay", "mg.py", "--from", source]
    environment = {**os.environ, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "65536"}
    for kill in ("files.before_seal:2", "files.after_seal:2", "pipeline.before_sinks:4"):
        crashed = {**environment, "STREAMCORE_CRASH_POINT": kill}
        done = subprocess.run(
            command, cwd=tmp_path, env=crashed, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == -9 or "crash" in done.stderr.lower() or done.returncode, done.stderr
        for n in (-len(kill), 10**6 + len(kill)):
            database.users.insert_one({"_id": n, "id": n, "name": "new"})
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    ids = pl.read_parquet(tmp_path / "out/**/*.parquet")["id"]
    assert ids.n_unique() == len(ids), "none twice"
    assert set(range(20_000)) <= set(ids.to_list()), "none lost"
