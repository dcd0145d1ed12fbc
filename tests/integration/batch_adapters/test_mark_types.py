"""Which columns may be marks: a run gives the rows behind the last mark, whatever its type."""

from __future__ import annotations

import datetime as dt
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from uuid import UUID

from bson import Binary, Decimal128, Int64, ObjectId
from pymongo import MongoClient

from batch_adapters.catalogue import open_source
from streamcore.contracts.unbounded import Incremental
from streamcore.testing.unbounded import ids_of
from tests.integration.batch_adapters.test_postgres_source import execute as execute_postgres
from tests.services.mariadb import MariadbServer
from tests.services.mariadb import execute as execute_mysql
from tests.services.mongo import MongoServer
from tests.services.postgres import PostgresServer

ROWS = 4
UUIDS = [f"'019{n}0000-0000-7000-8000-000000000000'" for n in range(ROWS)]
TIMES = [f"'2026-10-25 0{n}:59:59.{9 - n}00001'" for n in range(ROWS)]
POSTGRES: dict[str, Sequence[str]] = {
    "bigint": ["-9223372036854775808", "-1", "9", "10"],
    "numeric(20,4)": ["-1.5", "9.9999", "10", "10.0001"],
    "timestamp": TIMES,
    "timestamptz": [
        "'2026-10-25 00:59+00'",
        "'2026-10-25 02:00+01'",
        "'2026-10-25 03:00+01'",
        "'2027-01-01'",
    ],
    "date": ["'0044-03-15 BC'", "'1999-12-31'", "'2024-02-29'", "'10000-01-01'"],
    "double precision": ["-1e300", "0.1", "0.30000000000000004", "1e300"],
    'text collate "C"': ["''", "'10'", "'9'", "'it''s'"],
    "uuid": UUIDS,
}
MYSQL: dict[str, Sequence[str]] = {
    "bigint unsigned": ["0", "9", "10", "18446744073709551615"],
    "decimal(20,4)": ["-1.5", "9.9999", "10", "10.0001"],
    "datetime(6)": TIMES,
    "timestamp(6)": TIMES,
    "datetime": [f"'2026-10-25 0{n}:59:59'" for n in range(ROWS)],
    "date": ["'1000-01-01'", "'1999-12-31'", "'2024-02-29'", "'9999-12-31'"],
    "varchar(36) collate utf8mb4_bin": UUIDS,
}
MONGODB: dict[str, Sequence[object]] = {
    "long": [Int64(-(2**63)), -1, 9, Int64(2**63 - 1)],
    "double": [-1e300, 0.1, 0.30000000000000004, 1e300],
    "decimal": [Decimal128("-1.5"), Decimal128("9.9999"), Decimal128("10"), Decimal128("10.0001")],
    "date": [
        dt.datetime(1, 1, 1),
        dt.datetime(1969, 12, 31, 23),
        dt.datetime(2024, 2, 29),
        dt.datetime(9999, 12, 31),
    ],
    "text": ["", "10", "9", "it's"],
    "objectId": [ObjectId(f"{n:024x}") for n in range(ROWS)],
    "uuid": [Binary.from_uuid(UUID(int=n)) for n in range(ROWS)],
    "of several types": [7, "text", ObjectId(), dt.datetime(1990, 1, 1)],
}
SQLITE: dict[str, Sequence[str]] = {
    "integer": ["-5", "9", "10", "9223372036854775807"],
    "text": TIMES,
    "real": ["-1e300", "0.1", "0.30000000000000004", "1e300"],
    "timestamp": ["1761350400", "1761350401.5", "'2026-01-01'", "'2026-10-25'"],
}


def check(uri: str, types: Mapping[str, Sequence[str]], execute: Callable[[str], None]) -> None:
    """A table with a column of each type: two rows are there, then two more; each column may be the mark."""
    columns = ", ".join(f"m{place} {type_} not null" for place, type_ in enumerate(types))
    execute(f"create table shop (id int primary key, {columns})")
    insert = "insert into shop values ({})"
    for n in range(2):
        execute(insert.format(", ".join([str(n), *(values[n] for values in types.values())])))
    uri = f"{uri}&table=shop"
    found = [run(f"{uri}&mark=m{place}", b"") for place in range(len(types))]
    assert [ids for ids, _ in found] == [[0, 1]] * len(types)
    for n in range(2, 4):
        execute(insert.format(", ".join([str(n), *(values[n] for values in types.values())])))
    later = {type_: run(f"{uri}&mark=m{place}", found[place][1])[0] for place, type_ in enumerate(types)}
    assert later == {type_: [2, 3] for type_ in types}


def run(uri: str, bookmark: bytes) -> tuple[list[int], bytes]:
    """The ids that a run gives behind *bookmark*, and where the next one goes on."""
    source = open_source(f"{uri}&columns=id&settle=0s")
    assert isinstance(source, Incremental)
    reader, ids = source.taken_in().open(bookmark), list[int]()
    while (one := reader.poll(1 << 20, time.time())) is not None or not reader.caught_up:
        if one is not None:
            ids, bookmark = [*ids, *(id for id, _ in ids_of(one))], one.bookmark
    reader.close()
    return ids, bookmark


def test_marks_of_mongodb(mongo: MongoServer) -> None:
    """Also of several types, which have an order among themselves."""
    uri = mongo.fresh_database()
    with MongoClient[dict[str, object]](uri) as client:
        shop = client.get_default_database().shop
        for place in range(len(MONGODB)):
            shop.create_index([(f"m{place}", 1), ("_id", 1)])

        def rows(numbers: Sequence[int]) -> list[dict[str, object]]:
            marks = {f"m{place}": values for place, values in enumerate(MONGODB.values())}
            return [{"id": n, **{name: values[n] for name, values in marks.items()}} for n in numbers]

        shop.insert_many(rows([0, 1]))
        asked = [
            f"{uri}&collection=shop&mark={mark}" for mark in ["_id", *(f"m{n}" for n in range(len(MONGODB)))]
        ]
        found = [run(one, b"") for one in asked]
        assert [ids for ids, _ in found] == [[0, 1]] * len(asked)
        shop.insert_many(rows([2, 3]))
        later = [run(one, bookmark)[0] for one, (_, bookmark) in zip(asked, found, strict=True)]
    assert dict(zip(["_id", *MONGODB], later, strict=True)) == {name: [2, 3] for name in ["_id", *MONGODB]}


def test_marks_of_postgresql(postgres: PostgresServer) -> None:
    database = postgres.fresh_database().partition("?")[0] + "?sslmode=disable"
    check(database, POSTGRES, partial(execute_postgres, database))


def test_marks_of_mysql(mariadb: MariadbServer) -> None:
    database = mariadb.fresh_database()
    check(f"{database}?", MYSQL, partial(execute_mysql, database))


def test_marks_of_sqlite(tmp_path: Path) -> None:
    def execute(statement: str) -> None:
        with closing(sqlite3.connect(tmp_path / "rows.db")) as connection:
            connection.execute(statement)
            connection.commit()

    check(f"sqlite:///{tmp_path}/rows.db?", SQLITE, execute)
