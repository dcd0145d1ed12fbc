"""``streamcore connect`` and ``streamcore schema``: what they show, also as JSON, and their exit codes."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from pathlib import Path

import polars as pl
import pytest

import streamcore.sinks
from streamcore.cli.app import run
from streamcore.cli.connectors import installed, live, sinks, sources
from tests.services.rest import rest_server

MODULE = """
import streamcore as sc
topology = sc.Topology("people")
topology.stream("users", {"id": "int64", "name": "string"}).to(sc.sinks.Parquet("out"))
topology.stream("visits", {"id": "int32"}).to(sc.sinks.Parquet("out2"))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.py").write_text(MODULE)
    (tmp_path / "users.csv").write_text("id,name\n" + "".join(f"{n},user {n}\n" for n in range(30)))
    (tmp_path / "users.jsonl").write_text('{"id": 1, "tags": ["a"]}\nnothing\n{"id": 2.5}\n')
    with sqlite3.connect(tmp_path / "s.db") as file:
        file.execute("create table users (id integer primary key, name text)")
        file.execute("insert into users values (1, 'Ann'), (2, 'Bob')")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run(arguments) == code
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> object:
    return json.loads(said(capsys, *arguments, "--json", code=code))


def test_the_list_is_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "connect", "list")
    assert "postgresql:// postgres://" in text
    assert "sc.sinks.Postgres" in text
    found = document(capsys, "connect", "list")
    assert found == json.loads(
        json.dumps(
            {
                "sources": [row._asdict() for row in sources()],
                "live": [row._asdict() for row in live()],
                "sinks": [row._asdict() for row in sinks()],
            }
        )
    )
    assert [row.name for row in sinks()] == [n for n in streamcore.sinks.__all__ if n != "open_sink"]
    by_name = {row.name: row for row in sinks()}
    assert (by_name["Postgres"].upsert, by_name["Postgres"].exactly_once) == (True, "always")
    assert by_name["Topic"].exactly_once == "if asked"


def test_an_extra_is_there_or_missing() -> None:
    assert installed("postgres")
    assert not installed("postgres") or installed("nothing that there is")


@pytest.mark.parametrize("uri", ["users.csv", "users.jsonl", "sqlite:///s.db?table=users"])
def test_a_source_that_works_passes_each_step(
    folder: Path, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    text = said(capsys, "connect", "test", uri)
    assert [line.split()[1] for line in text.splitlines() if line.startswith("ok")] == [
        "open",
        "columns",
        "read",
    ]
    assert f"streamcore connect sample '{uri}'" in text
    found = document(capsys, "connect", "test", uri)
    assert isinstance(found, dict)
    assert found["ok"]
    assert [step["step"] for step in found["steps"]] == ["open", "columns", "read"]


def test_a_source_that_fails_says_at_which_step_and_why(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["connect", "test", "sqlite:///s.db?table=uesrs"]) == 2
    assert "did you mean 'users'?" in capsys.readouterr().err
    monkeypatch.setenv("TOKEN", "s3cret")
    with rest_server() as server:
        server.allowed = lambda request: False
        code = run(["connect", "test", f"{server.url}/all?allow_private=true&bearer_token=${{env:TOKEN}}"])
    out, err = capsys.readouterr()
    assert code == 1
    assert out.count("ok ") == 2
    assert "401 Unauthorized" in err
    assert "check the credentials" in err
    assert "s3cret" not in out + err


def test_a_sample_of_each_kind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "connect", "sample", "users.csv", "--rows", "2").splitlines()[:3] == [
        "id  name  ",
        "0   user 0",
        "1   user 1",
    ]
    found = document(capsys, "connect", "sample", "users.jsonl")
    assert found == {
        "uri": "users.jsonl",
        "rows": [{"id": 1.0, "tags": ["a"]}, {"id": 2.5, "tags": None}],
        "refused": 1,
    }


def test_rows_of_any_type_and_length_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"id": [1], "raw": [b"\xff"], "text": ["x" * 300], "took": [dt.timedelta(seconds=1)]}
    pl.DataFrame(rows).write_parquet("any.parquet")
    head, row, _ = said(capsys, "connect", "sample", "any.parquet").splitlines()
    assert head.split() == ["id", "raw", "text", "took"]
    assert row.split()[0] == "1"
    found = document(capsys, "connect", "sample", "any.parquet")
    assert isinstance(found, dict)
    assert (found["rows"][0]["raw"], len(found["rows"][0]["text"])) == ("/w==", 300)


def test_a_schema_is_inferred_and_printed_as_a_declaration(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 'topology.stream("NAME", {"id": "int64", "name": "string"})' in said(
        capsys, "schema", "infer", "users.csv"
    )
    found = document(capsys, "schema", "infer", "users.jsonl")
    assert isinstance(found, dict)
    assert found["columns"] == [
        {"name": "id", "type": "float64", "nulls": 0},
        {"name": "tags", "type": "pl.List(pl.String)", "nulls": 1},
    ]


def test_the_columns_that_are_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "schema", "show", "people.py") == {
        "users": {"id": "int64", "name": "string"},
        "visits": {"id": "int32"},
    }
    assert document(capsys, "schema", "show", "people#visits") == {"visits": {"id": "int32"}}
    uri = "sqlite:///s.db?table=users"
    assert document(capsys, "schema", "show", uri) == {uri: {"id": "int64", "name": "string"}}
    assert run(["schema", "show", "users.jsonl"]) == 2
    assert "streamcore schema infer" in capsys.readouterr().err
    assert run(["schema", "show", "people.py#uesrs"]) == 2
    assert "did you mean 'users'?" in capsys.readouterr().err


def test_a_diff_says_what_differs_by_its_exit_code_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "schema", "diff", "users.csv", "people.py#users") == "the same columns and types\n"
    text = said(capsys, "schema", "diff", "people.py#visits", "sqlite:///s.db?table=users", code=1)
    assert text.splitlines() == ["~ id    int32 -> int64  wider", "+ name  string  new"]
    found = document(capsys, "schema", "diff", "users.csv", "people.py#visits", code=1)
    assert found == {
        "differences": [
            {"column": "id", "before": "int64", "after": "int32", "verdict": "other type"},
            {"column": "name", "before": "string", "after": None, "verdict": "missing"},
        ]
    }
    assert run(["schema", "diff", "users.csv", "people.py"]) == 2
    assert "people.py#users" in capsys.readouterr().err


def test_a_sink_is_tried_and_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    for uri in ("out/late?format=csv", "sqlite:///s.db?table=users", "sqlite:///new.db?table=users"):
        text = said(capsys, "connect", "test", "--sink", uri)
        assert "reached" in text
    assert document(capsys, "connect", "test", "--sink", "x.csv")["ok"] is True  # type: ignore[index]
    assert sorted(folder.rglob("*")) == before
    said(capsys, "connect", "test", "--sink", "users.csv/out?format=csv", code=1)
    said(capsys, "connect", "test", "--sink", "postgresql://127.0.0.1:1/x?table=t", code=1)
    said(capsys, "connect", "test", "--sink", "https://example.com/rows", code=2)
    said(capsys, "connect", "test", "--sink", "postgresql://127.0.0.1:1/x", code=2)
