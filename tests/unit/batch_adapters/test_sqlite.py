"""SQLite: what is refused, mistakes, files that are none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.testing.sources import SOURCE, read_chunks, read_source


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a b.db"


def execute(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_value_of_another_type_is_refused_as_it_came(file: Path) -> None:
    execute(
        file, "create table t (i integer, s text)", "insert into t values (1, 'a'), ('one', 'b'), (3, x'ff')"
    )
    (chunk,) = read_chunks(open_source(f"sqlite:///{file}").splits(1)[0].open(SOURCE, 0), 0, 1 << 20)
    assert chunk.frame is not None
    assert chunk.frame.rows() == [(1, "a")]
    assert chunk.rejects.frame.select("_offset", "code").rows() == [(1, "type"), (2, "type")]
    assert pl.read_ipc_stream(chunk.original(1).data or b"").rows() == [("one", "b")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("?table=usres", "did you mean 'users'"),
        ("?table=users&columns=nmae", "did you mean 'name'"),
        ("?table=users&query=select 1", "not both"),
        ("?query=selekt 1", "syntax error"),
        ("?table=users&tabel=x", "did you mean 'table'"),
        ("", "which table"),
    ],
)
def test_mistakes_are_found_before_a_row_is_read(file: Path, options: str, says: str) -> None:
    execute(file, "create table users (id integer primary key, name text)", "create table orders (id)")
    with pytest.raises((BadConfig, Permanent), match=says):
        open_source(f"sqlite:///{file}{options}")


def test_no_file_no_database_and_a_locked_one(file: Path) -> None:
    with pytest.raises(BadConfig, match="no such file"):
        open_source(f"sqlite:///{file}?table=t")
    file.write_text("id,name\n" * 100)
    with pytest.raises(Permanent, match="not a database"):
        open_source(f"sqlite:///{file}?table=t")
    with pytest.raises(BadConfig, match="three slashes"):
        open_source("sqlite://host/x.db?table=t")


def test_a_locked_database_is_a_passing_trouble(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_adapters.sqlite._BUSY_SECONDS", 0.01)
    execute(file, "create table t (id integer)")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(Transient, match="locked"):
            open_source(f"sqlite:///{file}?table=t")


def test_a_view_is_read_and_a_key_makes_it_go_on(file: Path) -> None:
    execute(
        file,
        "create table t (id integer)",
        "insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000) "
        "select i from n",
        "create view v as select id from t",
    )
    split = open_source(f"sqlite:///{file}?table=v").splits(3)[0]
    chunk = next(read_chunks(split.open(SOURCE, 0), 0, 10_000))
    with pytest.raises(Permanent, match="key=COLUMN"):
        split.open(SOURCE, chunk.end, chunk.bookmark).read(1000)
    assert len(read_source(open_source(f"sqlite:///{file}?table=v&key=id"), 3)) == 3000


def test_a_key_that_is_null_or_not_unique_is_found(file: Path) -> None:
    execute(file, "create table t (id integer, n integer)", "insert into t values (1, 1), (1, 2), (2, null)")
    with pytest.raises(BadConfig, match="null in some row"):
        open_source(f"sqlite:///{file}?table=t&key=n")
    for max_bytes in (1, 1 << 20):
        split = open_source(f"sqlite:///{file}?table=t&key=id").splits(1)[0]
        with pytest.raises(Permanent, match=r"not unique.*1"):
            list(read_chunks(split.open(SOURCE, 0), 0, max_bytes))
