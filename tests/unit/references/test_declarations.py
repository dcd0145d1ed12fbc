"""References as users declare them; files that change."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import polars as pl
import pytest

import streamcore as sc
from streamcore.errors import BadConfig, Transient
from streamcore.references.files import File
from streamcore.systems.redis import shown_url

COLUMNS = {"id": "int64", "name": "string"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"key": "idd"}, "did you mean 'id'"),
        ({"key": ()}, "needs a key"),
        ({"key": "id", "columns": {}}, "needs its columns"),
        ({"key": "id", "columns": {"id": "float64"}}, "can't be the key of a reference, got 'Float64'"),
        ({"key": "id", "columns": {"id": "int6"}}, "int6"),
        ({"key": "id", "cache_rows": 0}, "at least 1"),
        ({"key": "id", "cache_for": "soon"}, "no duration"),
        ({"key": "id", "table": "a\0"}, "the table's name"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_at_once(given, says):
    with pytest.raises(BadConfig, match=says):
        sc.references.Postgres(**{"table": "users", "columns": COLUMNS, **given})


def test_the_question_quotes_its_names_and_takes_arrays():
    reference = sc.references.Postgres('a"b', key=("id", "name"), columns=COLUMNS, schema="s")
    assert reference.statement == (
        'select t."id", t."name" from "s"."a""b" t join unnest($1::bigint[], $2::text[]) as w(k0, k1) '
        'on t."id" = w.k0 and t."name" = w.k1'
    )
    assert (reference.name, reference.caching.misses) == ('postgres:s.a"b', 60.0)
    assert "password" not in repr(sc.references.Postgres("t", key="id", columns=COLUMNS, url="password"))


@pytest.mark.parametrize(
    ("pattern", "columns", "says"),
    [
        ("user", {"id": "int64"}, "has columns in braces"),
        ("user:{id", {"id": "int64"}, "has columns in braces"),
        ("user:{}", {"id": "int64"}, "has columns in braces"),
        ("user:{id!r}", {"id": "int64"}, "has columns in braces"),
        ("user:{id:5}", {"id": "int64"}, "has columns in braces"),
        ("user:{idd}", {"id": "int64", "name": "string"}, "did you mean 'id'"),
        ("user:{id.real}", {"id": "int64", "name": "string"}, "unknown column"),
        ("user:{id}", {"id": "int64"}, "a hash needs fields"),
        ("user:{id}", {"id": "date", "name": "string"}, "can't be the key"),
    ],
)
def test_what_is_wrong_with_a_hash_is_said_at_once(pattern, columns, says):
    with pytest.raises(BadConfig, match=says):
        sc.references.Redis(pattern, columns=columns)


@pytest.mark.parametrize("url", ["http://h", "redis://", "redis://:secret@h:port", "secret"])
def test_an_address_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(BadConfig, match="not a Redis URL") as refused:
        shown_url(url)
    assert "secret" not in str(refused.value)
    assert shown_url("rediss://me:secret@h:1/2?ssl_ca_certs=x") == "rediss://h:1/2"


def write(path: Path, frame: pl.DataFrame, time: int) -> None:
    aside = path.with_suffix(".new")
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[path.suffix](
        aside
    )
    os.utime(aside, ns=(time, time))
    aside.rename(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_file_is_read_again_when_it_has_changed_and_not_before_its_time(tmp_path, suffix):
    path, now = tmp_path / f"users{suffix}", 0.0
    write(path, pl.DataFrame({"id": [1, 2], "name": ["a", "b"]}), 1)
    reference = File(path, "id", refresh="10s")
    assert (reference.name, dict(reference.types)) == (
        f"file:users{suffix}",
        {"id": pl.Int64, "name": pl.String},
    )
    reader = reference.reader(lambda: now)

    def ask(*ids: int) -> list[tuple[object, ...]]:
        return asyncio.run(reader.rows(pl.DataFrame({"id": ids}))).sort("id").rows()

    asyncio.run(reader.start())
    assert ask(2, 3) == [(2, "b")]
    write(path, pl.DataFrame({"id": [2, 3], "name": ["c", "d"]}), 2)
    now = 9.0
    assert ask(2, 3) == [(2, "b")]
    now = 10.0
    assert ask(2, 3) == [(2, "c"), (3, "d")]
    path.write_text("{" if suffix == ".jsonl" else "")
    now = 20.0
    with pytest.raises(Transient, match="can't be read"):
        ask(2)
    write(path, pl.DataFrame({"id": [2, 2], "name": ["c", "d"]}), 4)
    with pytest.raises(Transient, match="several rows of a key"):
        ask(2)
    write(path, pl.DataFrame({"id": [2], "name": ["e"]}), 5)
    assert ask(2) == [(2, "e")]
    path.unlink()
    now = 30.0
    with pytest.raises(Transient, match="FileNotFoundError"):
        ask(2)


def test_files_that_can_not_be_a_reference_are_refused(tmp_path):
    with pytest.raises(BadConfig, match=r"of this kind.*allowed: \.csv"):
        File(tmp_path / "users.txt", "id")
    with pytest.raises(BadConfig, match="can't be read: FileNotFoundError"):
        File(tmp_path / "users.csv", "id")
    write(tmp_path / "users.csv", pl.DataFrame({"id": [0.5]}), 1)
    with pytest.raises(BadConfig, match="can't be the key"):
        File(tmp_path / "users.csv", "id")
    with pytest.raises(BadConfig, match="did you mean 'id'"):
        File(tmp_path / "users.csv", "idd")
