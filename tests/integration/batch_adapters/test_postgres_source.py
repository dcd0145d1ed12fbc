"""PostgreSQL as a source: refused values, tables without a key, one moment for all parts, errors, kill -9."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import asyncpg
import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.systems.kafka import KafkaConnection
from streamcore.testing.sources import SOURCE, read_chunks, read_source, read_split, records_of
from streamcore.transport.kafka_log import KafkaLog
from tests.services.kafka import KafkaServer
from tests.services.native import free_ports
from tests.services.postgres import PostgresServer

UTC = dt.timezone.utc


def execute(dsn: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def server(postgres: PostgresServer) -> PostgresServer:
    return postgres


@pytest.fixture
def database(server: PostgresServer) -> str:
    """The DSN of an empty database, without a query."""
    return server.fresh_database().partition("?")[0] + "?sslmode=disable"


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("timestamptz", "infinity"),
        ("timestamp", "-infinity"),
        ("date", "infinity"),
        ("date", "-infinity"),
        ("timestamp", "280000-01-01"),
        ("numeric(5,2)", "NaN"),
        ("time", "24:00:00"),
        ("date[]", "{NULL,-infinity}"),
        ("time[]", "{24:00:00}"),
        ("integer[]", "{{1,2},{3,4}}"),
    ],
)
def test_a_row_with_what_no_type_can_hold_is_refused_as_it_came(
    database: str, type_: str, value: str
) -> None:
    execute(
        database,
        f"create table odd (id int primary key, v {type_})",
        f"insert into odd values (1, null), (42, '{value}'), (43, null)",
    )
    split = open_source(f"{database}&table=odd").splits(1)[0]
    (chunk,) = read_chunks(split.open(SOURCE, 0), 0, 1 << 20)
    assert chunk.frame is not None
    assert chunk.frame.rows() == [(1, None), (43, None)]
    assert chunk.rejects.frame.select("_offset", "code", "stage").rows() == [(1, "range", "read")]
    came = pl.read_ipc_stream(chunk.original(1).data or b"").rows()
    assert came == [(42, came[0][1] if value == "280000-01-01" else value)]


def test_the_only_table_is_meant_and_of_several_all_are_named(database: str) -> None:
    with pytest.raises(BadConfig, match="no table"):
        open_source(database)
    execute(database, "create table users (id int primary key)", "insert into users values (7)")
    assert [record.value for record in read_source(open_source(database))] == [(7,)]
    execute(database, "create schema sales; create table sales.orders (id int)")
    with pytest.raises(BadConfig, match=r"(?s)users.*sales\.orders|sales\.orders.*users"):
        open_source(database)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("table=usres", "did you mean 'users'"),
        ("table=users&columns=id,nmae", "did you mean 'name'"),
        ("table=users&key=idd", "did you mean 'id'"),
        ("table=users&query=select 1", "not both"),
        ("query=select nothing from users", "nothing"),
        ("query=selekt 1", "syntax error"),
        ("table=users&where=age > 3", "age"),
    ],
)
def test_mistakes_are_found_before_a_row_is_read(database: str, options: str, says: str) -> None:
    execute(database, "create table users (id int primary key, name text)")
    with pytest.raises((BadConfig, Permanent), match=says):
        read_source(open_source(f"{database}&{options}".replace(" ", "%20")))


def test_a_view_and_a_query_without_a_key_are_read_once_but_cannot_go_on(database: str) -> None:
    execute(
        database,
        "create table users (id int primary key)",
        "insert into users select generate_series(1, 3000)",
        "create view v as select id from users",
    )
    for options in ("table=v", "query=select id from users"):
        split = open_source(f"{database}&{options}".replace(" ", "%20")).splits(4)[0]
        chunks = list(read_chunks(split.open(SOURCE, 0), 0, 4000))
        assert sum(map(len, chunks)) == 3000
        with pytest.raises(Permanent, match="key=COLUMN"):
            split.open(SOURCE, chunks[0].end, chunks[0].bookmark).read(4000)
    assert len(read_source(open_source(f"{database}&table=v&key=id"), 3)) == 3000


def test_a_table_without_a_key_goes_on_by_the_place_of_its_rows(database: str) -> None:
    execute(
        database,
        "create table log (line text)",
        "insert into log select 'line ' || i from generate_series(1, 3000) i",
        "delete from log where line like '%7'",
    )
    split = open_source(f"{database}&table=log").splits(4)[0]
    whole = [r.value for r in read_source(open_source(f"{database}&table=log"))]
    assert len(whole) == 2700
    for chunk in list(read_chunks(split.open(SOURCE, 0), 0, 8000))[:5]:
        later = read_chunks(split.open(SOURCE, chunk.end, chunk.bookmark), chunk.end, 1 << 20)
        assert [row for c in later if c.frame is not None for row in c.frame.rows()] == whole[chunk.end :]


def test_all_parts_are_of_one_moment(database: str) -> None:
    execute(
        database,
        "create table users (id int primary key)",
        "insert into users select generate_series(1, 1000)",
    )
    first, second = open_source(f"{database}&table=users").splits(2)
    reader = first.open(SOURCE, 0, first.bookmark)
    assert reader.read(100) is not None
    execute(database, "delete from users where id % 2 = 0", "insert into users values (5000)")
    assert len(read_split(second)) == 500
    reader.close()


@pytest.mark.parametrize(
    ("type_", "values"),
    [("numeric", ["-20", "-3", "9", "10", "100"]), ("size", ["small", "medium", "large"])],
)
def test_rows_come_in_the_order_of_the_key_though_its_text_has_another(
    database: str, type_: str, values: list[str]
) -> None:
    execute(
        database,
        "create type size as enum ('small', 'medium', 'large')",
        f"create table sized (id {type_} primary key)",
        *(f"insert into sized values ('{value}')" for value in reversed(values)),
    )
    split = open_source(f"{database}&table=sized").splits(1)[0]
    chunks = list(read_chunks(split.open(SOURCE, 0), 0, 1))
    assert [record.value for chunk in chunks for record in records_of(chunk)] == [(v,) for v in values]
    for chunk in chunks:
        assert [record.value for record in read_split(split, chunk)] == [(v,) for v in values[chunk.end :]]


@pytest.mark.parametrize("max_bytes", [1, 500, 1 << 20])
def test_a_key_that_is_not_unique_is_found_wherever_the_pages_end(database: str, max_bytes: int) -> None:
    execute(
        database,
        "create table users (id int, name text)",
        "insert into users select i, 'x' from generate_series(1, 300) i union all select 200, 'y'",
    )
    reader = open_source(f"{database}&table=users&key=id").splits(1)[0].open(SOURCE, 0)
    with pytest.raises(Permanent, match=r"not unique.*200"):
        list(read_chunks(reader, 0, max_bytes))


def test_rows_whose_key_is_null_are_not_left_out_without_a_word(database: str) -> None:
    execute(
        database,
        "create table users (id int, name text)",
        "insert into users values (1, 'x'), (2, 'y'), (null, 'z')",
    )
    with pytest.raises(BadConfig, match="null in some row"):
        open_source(f"{database}&table=users&key=name,id")
    found = open_source(f"{database}&table=users&key=id&where=id is not null".replace(" ", "%20"))
    assert [record.value for record in read_source(found, 2)] == [(1, "x"), (2, "y")]


def test_a_query_may_end_in_a_comment(database: str) -> None:
    found = open_source(f"{database}&query=select 1 as one -- only this".replace(" ", "%20"))
    assert [record.value for record in read_source(found)] == [(1,)]


def test_who_cannot_connect_learns_why_and_no_password_is_shown(
    server: PostgresServer, database: str
) -> None:
    wrong = database.replace("pgpass", "s3cret")
    with pytest.raises(Permanent, match="password authentication failed") as refused:
        open_source(wrong)
    (port,) = free_ports(1)
    with pytest.raises(Transient, match="Connection refused"):
        open_source(f"postgresql://u:s3cret@127.0.0.1:{port}/x?table=t")
    assert "s3cret" not in str(refused.value)


def test_over_verified_tls_and_not_without_the_authority(server: PostgresServer) -> None:
    if server.ca_file is None:
        pytest.skip("the server has no TLS")
    execute(server.dsn, "create table if not exists tls_rows (id int primary key)")
    assert read_source(open_source(f"{server.tls_dsn}&table=tls_rows")) == []
    stranger = server.tls_dsn.partition("&sslrootcert")[0]
    with pytest.raises(Permanent, match="sslrootcert"):
        open_source(f"{stranger}&table=tls_rows")


MODULE = """
import streamcore as sc
topology = sc.Topology("pg")
topology.stream("users", {"id": "int64", "name": "string"}).to(sc.sinks.Parquet("out", roll_seconds=0.2))
"""


def test_a_replay_killed_at_any_moment_goes_on_behind_rows_that_moved(database: str, tmp_path: Path) -> None:
    """Killed three times; between the runs rows are inserted below and above what was read."""
    execute(
        database,
        "create table users (id bigint primary key, name text)",
        "insert into users select i, repeat('x', 200) from generate_series(1, 60000) i",
    )
    (tmp_path / "pg.py").write_text(MODULE)
    command = [sys.executable, "-m", "streamcore.cli", "replay", "pg.py", "--from", f"users={database}"]
    environment = {**os.environ, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "65536"}
    for kill in ("files.before_seal:2", "files.after_seal:2", "pipeline.before_sinks:4"):
        crashed = {**environment, "STREAMCORE_CRASH_POINT": kill}
        subprocess.run(command, cwd=tmp_path, env=crashed, capture_output=True, check=False, timeout=120)
        execute(database, f"insert into users values ({-len(kill)}, 'below'), ({10**6 + len(kill)}, 'above')")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    ids = pl.read_parquet(tmp_path / "out/**/*.parquet")["id"]
    assert ids.n_unique() == len(ids), "none twice"
    assert set(range(1, 60_001)) <= set(ids.to_list()), "none lost"


def test_a_replay_into_kafka_that_was_killed_goes_on(
    database: str, kafka: KafkaServer, tmp_path: Path
) -> None:
    """The heir has no file of bookmarks: they are in the topic, and the table is cut otherwise by then."""
    name = f"pg-{uuid.uuid4().hex[:8]}"
    execute(
        database,
        "create table users (id bigint primary key, name text)",
        "insert into users select i, repeat('x', 200) from generate_series(1, 20000) i",
    )
    (tmp_path / "pg.py").write_text(
        MODULE.replace('"pg"', f'"{name}"').replace('"users", {', f'"users", topic="{name}", schema={{')
    )

    async def topic() -> list[int]:
        log = KafkaLog(KafkaConnection.parse(kafka.url))
        await log.create(name, 3, {})
        found = []
        for partition, bounds in (await log.bounds(name)).items():
            async for chunk in log.scan(name, partition, *bounds):
                found += [json.loads(value)["id"] for value in chunk.values() if value]
        await log.close()
        return found

    assert asyncio.run(topic()) == []
    command = [sys.executable, "-m", "streamcore.cli", "replay", "pg.py", "--from", f"users={database}"]
    environment = {**os.environ, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "65536"}
    for run, kill in enumerate(("feeding.appended:3", "feeding.appended:9", "")):
        done = subprocess.run(
            [*command, "--broker", kafka.url, "--state-dir", str(tmp_path / f"state{run}")],
            cwd=tmp_path,
            env={**environment, "STREAMCORE_CRASH_POINT": kill},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode == 0) == (not kill), done.stderr
        if kill:
            execute(
                database,
                f"insert into users select i, 'new' from generate_series({run + 1}00000, {run + 1}09000) i",
            )
    ids = asyncio.run(topic())
    assert len(ids) == len(set(ids)), "none twice"
    assert set(range(1, 20_001)) <= set(ids), "none lost"
