"""The SQLite sink on files: values that it refuses, and what it says when something is wrong."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from streamcore.errors import BadConfig, Permanent, StreamcoreError, Transient
from streamcore.sinks import SQLite
from streamcore.systems import sqlite
from tests.integration.sinks.delivery import write


def execute(path: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        found: list[tuple[object, ...]] = []
        for statement in statements:
            found = connection.execute(statement).fetchall()
        return found


async def test_what_sqlite_would_refuse_or_change_is_a_dead_letter_with_its_reason(tmp_path: Path) -> None:
    execute(
        path := tmp_path / "x.db",
        "create table parents (id integer primary key)",
        "insert into parents values (1)",
        "create table odd (n integer, x real, needed text not null, small int check (small < 9), "
        "parent integer references parents, once int unique, price decimal(20,4))",
    )
    ok: dict[str, object] = {
        "n": 1,
        "x": 0.5,
        "needed": "a",
        "small": 1,
        "parent": 1,
        "once": None,
        "price": None,
    }
    changes: list[tuple[dict[str, object], str]] = [
        ({}, ""),
        ({"n": 2**63}, "numeric_value_out_of_range"),
        ({"x": float("nan")}, "not_a_number"),
        ({"price": Decimal("12345678901.2345")}, ""),
        ({"price": Decimal("-123456789012.3456")}, "numeric_value_out_of_range"),
        ({"needed": None}, "not_null_violation"),
        ({"small": 9}, "check_violation"),
        ({"parent": 2}, "foreign_key_violation"),
        ({"once": 5}, ""),
        ({"once": 5}, "unique_violation"),
    ]
    schema = {"n": pl.UInt64, "x": pl.Float64, "needed": pl.String, "small": pl.Int8, "parent": pl.Int8,
              "once": pl.Int8, "price": pl.Decimal(20, 4)}  # fmt: skip
    codes = await write(SQLite("odd", path), pl.DataFrame([ok | c for c, _ in changes], schema=schema))
    assert codes == Counter(code for _, code in changes if code)
    assert execute(path, "select price from odd order by rowid") == [(None,), (12345678901.2345,), (None,)]


@pytest.mark.parametrize(
    ("declared", "dtype"),
    [
        ("integer", pl.String()),
        ("integer", pl.Float64()),
        ("text", pl.Int64()),
        ("real", pl.Decimal(10, 2)),
        ("numeric", pl.String()),
    ],
)
async def test_types_that_sqlite_would_change_do_not_fit(
    tmp_path: Path, declared: str, dtype: pl.DataType
) -> None:
    execute(tmp_path / "x.db", f"create table fits (v {declared})")
    with pytest.raises(BadConfig, match=r"does not fit.*cast_type\(v="):
        await write(SQLite("fits", tmp_path / "x.db"), pl.DataFrame(schema={"v": dtype}))


async def test_keys_of_two_columns_and_columns_that_are_not_the_streams_stay(tmp_path: Path) -> None:
    execute(
        path := tmp_path / "x.db",
        "create table stock (shop text, item int, n int, note text default 'none', primary key (item, shop))",
        "insert into stock values ('a', 1, 1, 'kept'), ('b', 1, 1, 'other')",
    )
    frame = pl.DataFrame({"shop": ["a", "a", "a"], "item": [1, 2, 1], "n": [5, 6, 7]})
    assert not await write(SQLite("stock", f"sqlite:///{path}", key=["shop", "item"]), frame)
    rows = execute(path, "select * from stock order by 1, 2")
    assert rows == [("a", 1, 7, "kept"), ("a", 2, 6, "none"), ("b", 1, 1, "other")]


FRAME = pl.DataFrame({"id": [1, 2]})


async def refused(sink: SQLite, kind: type[StreamcoreError] = BadConfig) -> str:
    with pytest.raises(kind) as caught:
        await write(sink, FRAME)
    return str(caught.value)


async def test_a_wrong_target_is_refused_before_any_row_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    assert "create=True" in await refused(SQLite("nowhere", path))
    execute(path, "create table other (ids int)", "create table plain (id int)", "create table t (id text)")
    assert "did you mean 'ids'" in await refused(SQLite("other", path, name="x"))
    assert "unique index" in await refused(SQLite("plain", path, key="id"), Permanent)
    assert "cast_type(id=" in await refused(SQLite("t", path))
    assert "three slashes" in await refused(SQLite("t", "sqlite://x.db"))
    assert "in a folder that there is" in await refused(SQLite("t", tmp_path / "no" / "x.db"), Permanent)
    (tmp_path / "text.db").write_text("This is no database, but a text of some length. " * 50)
    assert "is this an SQLite database?" in await refused(SQLite("t", tmp_path / "text.db"), Permanent)


async def test_a_version_that_the_table_would_round_is_refused_before_any_row(tmp_path: Path) -> None:
    execute(tmp_path / "x.db", "create table rows (id integer primary key, v double)")
    frame = pl.DataFrame({"id": [1, 1], "v": [2**53 + 1, 2**53]})
    with pytest.raises(BadConfig, match=r"Int64 into double"):
        await write(SQLite("rows", tmp_path / "x.db", key="id", version="v"), frame)


async def test_who_waits_too_long_for_another_writer_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    assert not await write(SQLite("t", path, create=True), FRAME)
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        assert "another process has locked" in await refused(SQLite("t", path), Transient)
        other.execute("rollback")
    assert not await write(SQLite("t", path), FRAME)
    assert execute(path, "select count(*) from t") == [(4,)]


async def test_many_rows_go_in_slices_each_by_a_call_of_its_own(tmp_path: Path) -> None:
    """Calls follow each other in threads: none may reset the statement of the next one."""
    frame = pl.DataFrame({"id": range(200_000), "name": ["x" * 20] * 200_000})
    assert not await write(SQLite("many", tmp_path / "x.db", create=True, key="id"), frame)
    assert execute(tmp_path / "x.db", "select count(*), sum(id) from many") == [
        (200_000, sum(range(200_000)))
    ]
