"""Logical decoding: types, keys that change, values that are not in the log, large transactions, the slot."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore.contracts.unbounded import Polled
from streamcore.errors import BadConfig, Permanent
from streamcore.sources.catalogue import open_unbounded
from streamcore.testing.sources import SOURCE, read_chunks
from streamcore.testing.unbounded import ids_of, polled, reading
from tests.faults.processes import WorkerProcess
from tests.integration.sources.test_polling import until
from tests.services.postgres import PostgresServer

_numbers = itertools.count()
TYPES = {
    "small": ("int2", "-7"),
    "whole": ("int4", "7"),
    "large": ("int8", "9223372036854775807"),
    "single": ("float4", "1.5"),
    "double": ("float8", "'NaN'"),
    "yes": ("bool", "true"),
    "text_": ("text", "'Zoë\n'"),
    "short": ("varchar(5)", "'abc'"),
    "bytes_": ("bytea", "'\\x00ff'"),
    "day": ("date", "'2024-02-29'"),
    "local": ("timestamp", "'2024-02-29 01:02:03.000004'"),
    "instant": ("timestamptz", "'2024-02-29 01:02:03+02'"),
    "clock": ("time", "'23:59:59.5'"),
    "price": ("numeric(12,2)", "-1234567890.10"),
    "many": ("numeric", "12345678901234567890123456789012345678901.5"),
    "uuid_": ("uuid", "'6f1c2a52-8a3a-4f41-9a6e-0123456789ab'"),
    "json_": ("json", "'{\"a\": 1}'"),
    "jsonb_": ("jsonb", "'{\"a\":1}'"),
    "mood_": ("mood", "'happy'"),
    "host": ("inet", "'10.0.0.1'"),
    "money_": ("money", "'1.50'"),
    "span": ("interval", "'1 mon 2 days'"),
    "numbers": ("int4[]", "'{1,null,2}'"),
    "words": ("text[]", "'{x,y}'"),
    "moods": ("mood[]", "'{happy}'"),
}
"""Columns of each type, and a value of it in SQL."""


class Database:
    """An empty database with a slot of its own."""

    def __init__(self, server: PostgresServer) -> None:
        self.dsn = server.fresh_database().partition("?")[0] + "?sslmode=disable"
        self.slot = f"decoded_{next(_numbers)}"

    def execute(self, *statements: str) -> list[asyncpg.Record]:
        async def run() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.dsn)
            rows = [await connection.fetch(statement) for statement in statements]
            await connection.close()
            return rows[-1]

        return asyncio.run(run())

    def uri(self, options: str = "create=true") -> str:
        return f"{self.dsn}&table=users&slot={self.slot}&every=10ms&{options}"

    def confirmed(self) -> int:
        """Up to where the slot is confirmed."""
        (row,) = self.execute(
            "select (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots "
            f"where slot_name = '{self.slot}'"
        )
        return int(row[0])


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    made = Database(postgres)
    yield made
    made.execute(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots "
        f"where slot_name = '{made.slot}'"
    )


def frames(found: list[Polled]) -> pl.DataFrame:
    return pl.concat([p.chunk.frame for one in found for p in one.parts if p.chunk.frame is not None])


def test_types_are_those_of_the_bounded_source_but_for_arrays_and_inet(database: Database) -> None:
    declared = ", ".join(f"{name} {type_}" for name, (type_, _) in TYPES.items())
    values = ", ".join(value for _, value in TYPES.values())
    database.execute(
        "create type mood as enum ('happy', 'sad')", f"create table users (id int primary key, {declared})"
    )
    source = open_unbounded(database.uri())
    database.execute(f"insert into users values (1, {values})", "insert into users (id) values (2)")
    with reading(source) as reader:
        found = frames(polled(reader, 2))
    split = open_source(f"{database.dsn}&table=users").splits(1)[0]
    (chunk,) = read_chunks(split.open(SOURCE, 0), 0, 1 << 20)
    assert chunk.frame is not None
    shown = {"numbers": "{1,NULL,2}", "words": "{x,y}", "moods": "{happy}", "host": "10.0.0.1"}
    differ = [name for name in found.columns if not found[name].equals(chunk.frame[name])]
    assert sorted(differ) == sorted(shown)
    assert found.schema == source.columns()
    assert found.select(list(shown)).to_dicts() == [shown, dict.fromkeys(shown)]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("timestamptz", "infinity"),
        ("date", "-infinity"),
        ("timestamp", "0044-03-15 00:00:00 BC"),
        ("numeric(5,2)", "NaN"),
    ],
)
def test_a_row_with_what_no_type_can_hold_is_refused_as_it_came(
    database: Database, type_: str, value: str
) -> None:
    database.execute(f"create table users (id int primary key, v {type_})")
    source = open_unbounded(database.uri())
    database.execute(f"insert into users values (1, null), (42, '{value}'), (43, null)")
    with reading(source) as reader:
        (one,) = polled(reader, 2)
    assert ids_of(one) == [(1, False), (43, False)]
    chunk = one.parts[0].chunk
    assert chunk.rejects.frame.select("code", "stage").rows() == [("range", "read")]
    assert pl.read_ipc_stream(chunk.original(1).data or b"").rows() == [("42", value)]


def test_a_row_that_gets_another_key_is_gone_under_the_old_one(database: Database) -> None:
    database.execute("create table users (id bigint primary key, name text)")
    source = open_unbounded(database.uri())
    for identity in ("default", "full"):
        database.execute(
            f"alter table users replica identity {identity}",
            "insert into users values (1, 'a'), (2, 'b')",
            "update users set name = 'c' where id = 1",
            "update users set id = 3 where id = 2",
            "delete from users where id in (1, 3)",
        )
    with reading(source) as reader:
        found = [row for one in polled(reader, 14) for row in ids_of(one)]
    once = [(1, False), (2, False), (1, False), (2, True), (3, False), (1, True), (3, True)]
    assert found == once * 2


def test_a_large_value_that_did_not_change_is_known_or_its_row_is_refused(database: Database) -> None:
    database.execute(
        "create table users (id bigint primary key, name text, about text)",
        "alter table users alter column about set storage external",
    )
    source = open_unbounded(database.uri())
    large = "repeat('x', 100000)"
    database.execute(f"insert into users values (1, 'a', {large})", "update users set name = 'b'")
    with reading(source) as reader:
        first = polled(reader, 1)
        rejects = [part.chunk.rejects.frame["code"].to_list() for one in first for part in one.parts]
        assert [code for codes in rejects for code in codes] == ["unchanged"]
        database.execute("alter table users replica identity full", "update users set name = 'c'")
        known = frames(polled(reader, 1))
    assert known.select("name", pl.col("about").str.len_chars()).rows() == [("c", 100_000)]


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_transaction_of_many_rows_goes_on_in_its_middle(database: Database, forgotten: bool) -> None:
    database.execute("create table users (id bigint primary key, name text)")
    source = open_unbounded(database.uri())
    database.execute("insert into users select i, 'user ' || i from generate_series(0, 29999) i")
    database.execute("insert into users values (30000, 'last')")
    read, bookmark = list[int](), b""
    for rows in (5000, 12000, 30001):
        with reading(source, bookmark) as reader:
            if bookmark and forgotten:
                reader.forget(bookmark)
            while len(read) < rows:
                one = reader.poll(200_000, 0.0) or Polled(bookmark)
                read += [id for id, _ in ids_of(one)]
                bookmark = one.bookmark
    assert read == list(range(30_001))


def test_more_transactions_than_one_look_asks_for_are_read_without_forgetting(database: Database) -> None:
    """Each look begins at the slot's place, and so gives the same ones first."""
    database.execute("create table users (id bigint primary key, name text)")
    source = open_unbounded(database.uri())
    for part in range(4):
        database.execute(f"insert into users select i, 'x' from generate_series({part}0000, {part}9999) i")
    with reading(source) as reader:
        assert len([id for one in polled(reader, 40_000) for id in ids_of(one)]) == 40_000


def test_the_slot_moves_on_when_rows_are_durable_and_not_before(database: Database) -> None:
    database.execute("create table users (id bigint primary key, name text)")
    source = open_unbounded(database.uri())
    before = database.confirmed()
    database.execute("insert into users values (1, 'a')")
    with reading(source) as reader:
        (one,) = polled(reader, 1)
        assert database.confirmed() == before
        reader.forget(one.bookmark)
        assert reader.poll(1 << 20, 0.0) is None
    assert database.confirmed() > before


def test_log_that_holds_nothing_of_the_table_is_not_kept(database: Database) -> None:
    database.execute(
        "create table users (id bigint primary key, name text)", "create table other (line text)"
    )
    source = open_unbounded(database.uri())
    before = database.confirmed()
    database.execute("insert into other select repeat('x', 1000) from generate_series(1, 30000)")
    with reading(source) as reader:
        nothing = reader.poll(1 << 20, 0.0)
        assert nothing is not None
        assert not nothing.parts
        reader.forget(nothing.bookmark)
        reader.poll(1 << 20, 0.0)
        reader.poll(1 << 20, 0.0)
        assert database.confirmed() - before > 10 << 20
        database.execute("insert into users values (1, 'a')")
        assert [id for one in polled(reader, 1) for id in ids_of(one)] == [(1, False)]


def test_a_truncate_ends_the_feeding_or_is_passed_over(database: Database) -> None:
    database.execute("create table users (id bigint primary key, name text)")
    source = open_unbounded(database.uri())
    database.execute(
        "insert into users values (1, 'a')", "truncate users", "insert into users values (2, 'b')"
    )
    with reading(source) as reader, pytest.raises(Permanent, match="truncate=skip"):
        polled(reader, 2)
    with reading(open_unbounded(database.uri("truncate=skip"))) as reader:
        assert [id for one in polled(reader, 2) for id in ids_of(one)] == [(1, False), (2, False)]


def test_deletes_are_left_out_on_request(database: Database) -> None:
    database.execute("create table users (id bigint primary key, name text)")
    source = open_unbounded(database.uri("create=true&ops=insert,update"))
    database.execute(
        "insert into users values (1, 'a')", "delete from users", "insert into users values (2, '')"
    )
    with reading(source) as reader:
        assert [id for one in polled(reader, 2) for id in ids_of(one)] == [(1, False), (2, False)]
    assert not source.abilities.deletes


def test_a_table_without_a_key_cannot_tell_which_row_is_gone(database: Database) -> None:
    database.execute("create table users (id bigint, name text)", "alter table users replica identity full")
    source = open_unbounded(database.uri())
    database.execute("insert into users values (1, 'a')", "delete from users")
    with reading(source) as reader:
        assert [id for one in polled(reader, 2) for id in ids_of(one)] == [(1, False), (1, True)]


def test_of_a_publication_of_several_tables_only_the_one_is_read(database: Database) -> None:
    database.execute(
        "create table users (id bigint primary key, name text)",
        "create table others (id bigint primary key, name text)",
        "create publication both_tables for table users, others",
    )
    source = open_unbounded(database.uri("create=true&publication=both_tables"))
    database.execute(
        "insert into others values (7, 'a')", "truncate others", "insert into users values (1, '')"
    )
    with reading(source) as reader:
        assert [id for one in polled(reader, 1) for id in ids_of(one)] == [(1, False)]
    database.execute("create table third (id int)")
    third = database.uri("publication=both_tables").replace("table=users", "table=third")
    with pytest.raises(BadConfig, match="add table"):
        open_unbounded(third)


def test_a_partitioned_table_is_one_table(database: Database) -> None:
    database.execute(
        "create table users (id bigint primary key, name text) partition by range (id)",
        "create table users_1 partition of users for values from (0) to (100)",
        "create table users_2 partition of users for values from (100) to (200)",
    )
    source = open_unbounded(database.uri())
    database.execute("insert into users values (1, 'a'), (150, 'b')")
    with reading(source) as reader:
        assert [id for one in polled(reader, 2) for id in ids_of(one)] == [(1, False), (150, False)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("create=false", "create=true, or run: create publication .* pg_create_logical_replication_slot"),
        ("create=perhaps", "true, false"),
        ("create=true&table=usres", "no such table"),
        ("ops=upsert", "insert, update, delete"),
    ],
)
def test_mistakes_are_found_before_a_row_is_read(database: Database, options: str, says: str) -> None:
    database.execute("create table users (id bigint primary key)")
    with pytest.raises(BadConfig, match=says):
        open_unbounded(database.uri(options))


MODULE = """
import os
import streamcore as sc
topology = sc.Topology("copied")
users = topology.table("users", {"id": "int64", "name": "string", "version": "int64"}, key="id")
users.by("id").latest().to(sc.sinks.Postgres("copies", url=os.environ["DATABASE_URL"], key="id", create=True))
"""


@pytest.mark.slow
def test_a_copy_is_the_table_though_the_worker_is_killed_at_every_step(
    database: Database, tmp_path: Path
) -> None:
    database.execute("create table users (id bigint primary key, name text, version bigint)")
    open_unbounded(database.uri())
    (tmp_path / "copied.py").write_text(MODULE)

    def worker(crash: str) -> WorkerProcess:
        return WorkerProcess(
            ["worker", "copied.py", "--from", f"users={database.uri('create=false')}"],
            log=tmp_path / "worker.log",
            cwd=tmp_path,
            environment={
                "DATABASE_URL": database.dsn,
                "STREAMCORE_CRASH_POINT": crash,
                "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "8192",
            },
        )

    def change(run: int) -> None:
        database.execute(
            f"insert into users select i, 'user ' || i, {run} from generate_series({run}000, {run}499) i",
            f"update users set version = {run}, name = name || '!' where id % 3 = {run % 3}",
            f"delete from users where id % 7 = {run % 7}",
            f"update users set id = id + 100000 where id % 11 = {run % 11} and id < 100000",
        )

    for run, point in enumerate(("intake.before_commit:3", "live.appended:2", "pipeline.before_sinks:3")):
        change(run)
        with worker(point) as process:
            until(lambda: process.code is not None, f"killed at {point}")
            assert process.code == -9, process.output()
    change(3)
    wanted = [tuple(row) for row in database.execute("select id, name, version from users order by id")]

    def copied() -> bool:
        there = database.execute("select to_regclass('copies') is not null")[0][0]
        rows = database.execute("select id, name, version from copies order by id") if there else []
        return [tuple(row) for row in rows] == wanted

    with worker("") as process:
        until(copied, "the copy is the table")
        process.terminate()
        assert process.wait(60) == 0, process.output()
