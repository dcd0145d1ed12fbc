"""MySQL and MariaDB as a source: types, keys, one moment for all parts, clear errors, kill -9."""

from __future__ import annotations

import datetime as dt
import os
import socket
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.systems import mysql
from streamcore.testing.sources import SOURCE, read_chunks, read_source, read_split
from tests.services.mariadb import MariadbServer, execute
from tests.services.native import free_ports


@pytest.fixture
def database(mariadb: MariadbServer) -> str:
    """The DSN of an empty database."""
    return mariadb.fresh_database()


def opened(database: str, options: str) -> str:
    return f"{database}?{options}".replace(" ", "%20")


LOCAL, MANY = pl.Datetime("us"), "12345678901234567890123456789012345678901.5"
UUID = "6f1c2a52-8a3a-4f41-9a6e-0123456789ab"
TYPES: dict[str, tuple[str, str, pl.DataType, object]] = {
    "tiny": ("tinyint", "-128", pl.Int8(), -128),
    "utiny": ("tinyint unsigned", "255", pl.UInt8(), 255),
    "yes": ("boolean", "true", pl.Int8(), 1),
    "small": ("smallint", "-7", pl.Int16(), -7),
    "medium": ("mediumint unsigned", "16777215", pl.UInt32(), 2**24 - 1),
    "whole": ("int", "7", pl.Int32(), 7),
    "uwhole": ("int unsigned", "4294967295", pl.UInt32(), 2**32 - 1),
    "large": ("bigint", "-9223372036854775808", pl.Int64(), -(2**63)),
    "ularge": ("bigint unsigned", "18446744073709551615", pl.UInt64(), 2**64 - 1),
    "year_": ("year", "2024", pl.Int16(), 2024),
    "bits": ("bit(10)", "b'1000000001'", pl.UInt64(), 513),
    "single": ("float", "16777217.5", pl.Float32(), 16777218.0),
    "double_": ("double", "1.7976931348623157e308", pl.Float64(), 1.7976931348623157e308),
    "text_": ("text", "'Zoë ☃ 𝄞\n\\\\'", pl.String(), "Zoë ☃ 𝄞\n\\"),
    "latin": ("varchar(5) character set latin1", "'ü'", pl.String(), "ü"),
    "fixed": ("char(5)", "'ab'", pl.String(), "ab"),
    "bytes_": ("varbinary(5)", "x'00ff'", pl.Binary(), b"\x00\xff"),
    "blob_": ("longblob", "x'00ff27'", pl.Binary(), b"\x00\xff'"),
    "day": ("date", "'2024-02-29'", pl.Date(), dt.date(2024, 2, 29)),
    "clock": ("time(1)", "'23:59:59.5'", pl.Time(), dt.time(23, 59, 59, 500_000)),
    "local": ("datetime(6)", "'2024-02-29 01:02:03.000004'", LOCAL, dt.datetime(2024, 2, 29, 1, 2, 3, 4)),
    "seconds": ("datetime", "'9999-12-31 23:59:59'", LOCAL, dt.datetime(9999, 12, 31, 23, 59, 59)),
    "instant": (
        "timestamp null",
        "from_unixtime(1709168523)",
        pl.Datetime("us", "UTC"),
        dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.timezone.utc),
    ),
    "price": ("decimal(12,2)", "-1234567890.10", pl.Decimal(12, 2), Decimal("-1234567890.10")),
    "uprice": ("decimal(5,0) unsigned", "99999", pl.Decimal(5, 0), Decimal(99999)),
    "many": ("decimal(60,1)", MANY, pl.String(), MANY),
    "json_": ("json", "'{\"a\": 1}'", pl.String(), '{"a": 1}'),
    "mood": ("enum('sad', 'happy')", "'happy'", pl.String(), "happy"),
    "tags": ("set('a', 'b')", "'a,b'", pl.String(), "a,b"),
    "uuid_": ("uuid", f"'{UUID}'", pl.String(), UUID),
}  # fmt: skip


@pytest.mark.parametrize("relation", ["table=types", "query=select * from types&key=id"])
def test_every_type_is_a_column_or_its_text_and_nulls_stay_nulls(database: str, relation: str) -> None:
    declared = ", ".join(f"{name} {type_}" for name, (type_, *_) in TYPES.items())
    values = ", ".join(value for _, value, *_ in TYPES.values())
    execute(
        database,
        f"create table types (id int primary key, {declared})",
        f"insert into types values (1, {values})",
        "insert into types (id) values (2)",
    )
    source = open_source(opened(database, f"{relation}&columns={','.join(TYPES)}"))
    assert source.columns() == pl.Schema({name: dtype for name, (_, _, dtype, _) in TYPES.items()})
    (chunk,) = read_chunks(source.splits(1)[0].open(SOURCE, 0), 0, 1 << 20)
    assert chunk.frame is not None
    assert chunk.frame.schema == source.columns()
    first, second = chunk.frame.to_dicts()
    assert first == {name: value for name, (_, _, _, value) in TYPES.items()}
    assert set(second.values()) == {None}


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("date", "0000-00-00"),
        ("datetime", "2024-00-15 00:00:00"),
        ("time", "-01:00:00"),
        ("time", "25:00:00"),
    ],
)
def test_a_row_with_what_no_type_can_hold_is_refused_as_it_came(
    database: str, type_: str, value: str
) -> None:
    execute(
        database,
        "set sql_mode = ''",
        f"create table odd (id int primary key, v {type_})",
        f"insert into odd values (1, null), (42, '{value}'), (43, null)",
    )
    split = open_source(opened(database, "table=odd")).splits(1)[0]
    (chunk,) = read_chunks(split.open(SOURCE, 0), 0, 1 << 20)
    assert chunk.frame is not None
    assert chunk.frame.rows() == [(1, None), (43, None)]
    assert chunk.rejects.frame.select("_offset", "code", "stage").rows() == [(1, "range", "read")]
    assert pl.read_ipc_stream(chunk.original(1).data or b"").rows() == [("42", value)]


KEYS = {
    "bigint unsigned": "(18446744073709551615 - id)",
    "varchar(20) collate utf8mb4_general_ci": "concat('é''\\\\', id)",
    "varbinary(8)": "unhex(lpad(hex(id), 8, '0'))",
    "datetime(6)": "'2024-01-01' + interval id second",
    "decimal(20,3)": "id + 0.125",
    "double": "id / 3",
    "date": "'2024-01-01' + interval id day",
}


@pytest.mark.parametrize("type_", KEYS)
@pytest.mark.parametrize("how", ["table=t&columns=id", "query=select * from t&key=k&columns=id"])
def test_a_key_of_any_type_is_gone_along_and_gone_on_behind(database: str, type_: str, how: str) -> None:
    execute(
        database,
        f"create table t (k {type_} primary key, id int)",
        f"insert into t select {KEYS[type_].replace('id', 'seq')}, seq from seq_1_to_300",
    )
    rows = execute(database, "select id from t order by k")
    source = open_source(opened(database, how))
    assert [record.value for record in read_source(source, 3)] == rows
    (split,) = source.splits(1)
    for chunk in list(read_chunks(split.open(SOURCE, 0), 0, 600))[::3]:
        assert [record.value for record in read_split(split, chunk)] == rows[chunk.end :]


def test_the_only_table_is_meant_and_of_several_all_are_named(database: str) -> None:
    with pytest.raises(BadConfig, match="no table"):
        open_source(database)
    execute(database, "create table users (id int primary key)", "insert into users values (7)")
    assert [record.value for record in read_source(open_source(database))] == [(7,)]
    other = database.rpartition("/")[2]
    assert len(read_source(open_source(f"{database}?table={other}.users"))) == 1
    execute(database, "create table orders (id int)")
    with pytest.raises(BadConfig, match="orders, users"):
        open_source(database)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("table=usres", "did you mean 'users'"),
        ("table=users&columns=id,nmae", "did you mean 'name'"),
        ("table=users&key=idd", "did you mean 'id'"),
        ("table=users&query=select 1", "not both"),
        ("table=users&ssl_mode=DISABLED", "did you mean 'ssl-mode'"),
        ("query=select nothing from users", "nothing"),
        ("query=selekt 1", "syntax"),
        ("table=users&where=age > 3", "age"),
        ("table=users&key=name", "not unique, as the server compares texts"),
    ],
)
def test_mistakes_are_found_before_a_row_is_read(database: str, options: str, says: str) -> None:
    execute(
        database,
        "create table users (id int primary key, name varchar(9) collate utf8mb4_general_ci)",
        "insert into users values (1, 'Ann'), (2, 'ANN')",
    )
    with pytest.raises((BadConfig, Permanent), match=says):
        read_source(open_source(opened(database, options)))


def test_a_table_without_a_key_is_read_once_but_cannot_go_on(database: str) -> None:
    execute(
        database,
        "create table log (line varchar(20))",
        "insert into log select concat('line ', seq) from seq_1_to_3000",
        "create view v as select line from log",
    )
    for options in ("table=log", "table=v", "query=select line from log"):
        split = open_source(opened(database, options)).splits(4)[0]
        chunks = list(read_chunks(split.open(SOURCE, 0), 0, 4000))
        assert sum(map(len, chunks)) == 3000
        with pytest.raises(Permanent, match="key=COLUMN"):
            split.open(SOURCE, chunks[0].end, chunks[0].bookmark).read(4000)


@pytest.mark.parametrize("how", ["table=users", "query=select * from users&key=id"])
def test_all_that_is_read_is_of_one_moment(database: str, how: str) -> None:
    execute(
        database, "create table users (id int primary key)", "insert into users select seq from seq_1_to_1000"
    )
    splits = open_source(opened(database, how)).splits(2)
    reader = splits[0].open(SOURCE, 0, splits[0].bookmark)
    first = reader.read(100)
    assert first is not None
    execute(database, "delete from users where id % 2 = 0", "insert into users values (5000)")
    rest = sum(map(len, read_chunks(reader, first.end, 1 << 20)))
    assert len(first) + rest + len(read_split(splits[1])) == 1000


def test_a_large_table_is_cut_by_the_values_of_its_key(database: str) -> None:
    execute(
        database,
        "create table users (id int primary key)",
        "insert into users select seq * 2 from seq_1_to_300000",
        "analyze table users",
    )
    splits = open_source(f"{database}?table=users").splits(4)
    counts = [len(read_split(split)) for split in splits]
    assert sum(counts) == 300_000
    assert min(counts) > 70_000


def test_memory_stays_bounded_where_rows_are_large(database: str) -> None:
    execute(
        database,
        "create table blobs (id int primary key, body longtext)",
        "insert into blobs select seq, repeat('x', 200000) from seq_1_to_100",
    )
    chunks = [len(c) for c in read_chunks(open_source(database).splits(1)[0].open(SOURCE, 0), 0, 1 << 20)]
    assert sum(chunks) == 100
    assert max(chunks[1:]) <= 6, "about max_bytes a page once it is known how large rows are"


def test_who_cannot_connect_learns_why_and_no_password_is_shown(database: str) -> None:
    with pytest.raises(Permanent, match=r"Access denied.*check user and password") as refused:
        open_source(database.replace("apppass", "s3cret"))
    assert "s3cret" not in str(refused.value)
    (port,) = free_ports(1)
    with pytest.raises(Transient, match=rf"127\.0\.0\.1:{port}") as away:
        open_source(f"mysql://u:s3cret@127.0.0.1:{port}/x?table=t")
    assert "s3cret" not in str(away.value)


def test_a_server_that_says_nothing_is_an_error_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(Transient, match=rf"127\.0\.0\.1:{port}.*did not answer in time"):
            open_source(f"mysql://u:s3cret@127.0.0.1:{port}/x?table=t")
    assert time.monotonic() - began < 20


def test_over_verified_tls_and_not_without_the_authority(mariadb: MariadbServer) -> None:
    if mariadb.ca_file is None:
        pytest.skip("the server has no TLS")
    execute(mariadb.dsn, "create table if not exists tls_rows (id int primary key)")
    assert read_source(open_source(f"{mariadb.tls_dsn}&table=tls_rows")) == []
    stranger = mariadb.tls_dsn.partition("&ssl-ca")[0]
    with pytest.raises(Permanent, match="ssl-ca"):
        open_source(f"{stranger}&table=tls_rows")


MODULE = """
import streamcore as sc
topology = sc.Topology("my")
topology.stream("users", {"id": "int64", "name": "string"}).to(sc.sinks.Parquet("out", roll_seconds=0.2))
"""


def test_a_replay_killed_at_any_moment_goes_on_behind_rows_that_moved(database: str, tmp_path: Path) -> None:
    """Killed twice; between the runs rows are inserted below and above what was read."""
    execute(
        database,
        "create table users (id bigint primary key, name text)",
        "insert into users select seq, repeat('x', 200) from seq_1_to_30000",
    )
    (tmp_path / "my.py").write_text(MODULE)
    command = [sys.executable, "-m", "streamcore.cli", "replay", "my.py", "--from", f"users={database}"]
    environment = {**os.environ, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "65536"}
    for kill in ("files.before_seal:2", "pipeline.before_sinks:4"):
        crashed = {**environment, "STREAMCORE_CRASH_POINT": kill}
        dead = subprocess.run(
            command, cwd=tmp_path, env=crashed, capture_output=True, check=False, timeout=120
        )
        assert dead.returncode == -9, "a run that ended before its fault is invalid"
        execute(database, f"insert into users values ({-len(kill)}, 'below'), ({10**6 + len(kill)}, 'above')")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    ids = pl.read_parquet(tmp_path / "out/**/*.parquet")["id"]
    assert ids.n_unique() == len(ids), "none twice"
    assert set(range(1, 30_001)) <= set(ids.to_list()), "none lost"
