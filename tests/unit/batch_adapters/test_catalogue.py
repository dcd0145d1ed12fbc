"""What a user can write, and what is said when nothing can be read from it."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from batch_adapters.catalogue import FORMATS, open_source
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.testing.sources import read_source

pytestmark = pytest.mark.usefixtures("data")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in: ``data/`` with two CSV files and one below, one of Parquet beside."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    (folder / "below").mkdir(parents=True)
    (folder / "b.csv").write_text("a;b\n3;4\n")
    (folder / "a.csv").write_text("a;b\n1;2\n")
    (folder / "below" / "c.csv").write_text("a;b\n5;6\n")
    (folder / "_SUCCESS").write_text("")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "x.parquet")
    return folder


def rows(uri: str, **options: str | int) -> list[object]:
    return [record.value for record in read_source(open_source(uri, **options))]


A, B, C = ("1", "2"), ("3", "4"), ("5", "6")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("data/a.csv", [A]),
        ("./data/../data/a.csv", [A]),
        ("data/*.csv", [A, B]),
        ("data/?.csv", [A, B]),
        ("data/[ab].csv?delimiter=;", [A, B]),
        ("data/**/*.csv", [A, B, C]),
        ("data", [A, B, C]),
        ("data/?delimiter=;&max_record_bytes=100", [A, B, C]),
        ("data/a.csv?format=csv", [A]),
        ("x.parquet", [(1,)]),
    ],
)
def test_paths_globs_and_folders(uri: str, expected: list[object]) -> None:
    assert rows(uri) == expected


def test_file_uris_are_unquoted(data: Path) -> None:
    (data / "with space?.csv").write_text("a;b\n7;8\n")
    assert rows(f"file://{data}/with%20space%3F.csv?delimiter=;") == [("7", "8")]
    assert rows(f"file://localhost{data}/a.csv") == [A]


@pytest.mark.parametrize("name", ['"; DROP TABLE x.csv', "a?b=c.csv", "[x].csv", "é\n.csv", "-.csv"])
def test_a_file_that_exists_is_meant_literally(name: str, data: Path) -> None:
    (data / name).write_text("a;b\n7;8\n")
    assert rows(f"data/{name}", delimiter=";") == [("7", "8")]


def test_options_of_the_query_reach_the_format(data: Path) -> None:
    (data / "l.csv").write_bytes("k|ü\n'1|2'|ö\n".encode("latin-1"))
    assert rows("data/l.csv?delimiter=|&encoding=latin-1&quote='") == [("1|2", "ö")]
    assert rows("data/a.csv?header=false&names=x,y") == [("a", "b"), A]
    assert rows("data/a.csv?delimiter=,", delimiter=";") == [A]


def test_an_empty_quote_option_means_no_quoting(data: Path) -> None:
    (data / "q.csv").write_text('a,b\n"1,2\n')
    assert rows("data/q.csv?quote=&delimiter=,") == [('"1', "2")]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data/d.csv", r"data/d\.csv: no such file or folder; did you mean '.\.csv'"),
        ("nowhere/x.csv", r"nowhere/x\.csv: no such file or folder; \. holds: data, x\.parquet"),
        ("data/*.parquet", r"no file matches; data holds: _SUCCESS, a\.csv, b\.csv, below"),
        ("gs://bucket/x.csv", r"no source for this scheme, got 'gs', allowed: file"),
        ("fil://x.csv", r"did you mean 'file'"),
        ("file://host/x.csv", r"names no host, got 'host'"),
        ("*", r"files of several formats.*csv.*parquet"),
        ("data/_SUCCESS", r"cannot tell the file's format.*allowed: \.csv, \.tsv"),
        (
            "data/a.csv?format=cvs",
            r"unknown format, got 'cvs', allowed: csv, json, parquet, avro, excel; did you mean 'csv'",
        ),
        ("data/a.csv?delimitr=;", r"csv has no such option, got 'delimitr'.*did you mean 'delimiter'"),
        ("data/a.csv?delimiter=;;", r"option delimiter: must be one ASCII character"),
        ("data/a.csv?max_record_bytes=many", r"option max_record_bytes: .*integer"),
        ("data/a.csv?encoding=utf9", r"unknown encoding 'utf9', did you mean"),
        ("x.parquet?sheet=1", r"parquet has no such option"),
        ("a\0b.csv", r"no such file"),
    ],
)
def test_what_can_not_be_read_is_said_before_reading(uri: str, message: str, data: Path) -> None:
    if uri == "*":
        (data.parent / "y.csv").write_text("")
    with pytest.raises(BadConfig, match=message):
        open_source(uri)


def test_compressed_parquet_is_refused(data: Path) -> None:
    (data / "x.parquet.gz").write_bytes(b"")
    with pytest.raises(BadConfig, match="parquet files are not read compressed"):
        open_source("data/x.parquet.gz")


def test_a_pipe_is_no_file(data: Path) -> None:
    os.mkfifo(data / "p.csv")
    with pytest.raises(BadConfig, match="not a regular file"):
        open_source("data/p.csv")


def test_files_of_other_columns_are_named(data: Path) -> None:
    (data / "z.csv").write_text("a;other\n")
    with pytest.raises(
        BadConfig, match=r"z\.csv: the file's columns differ from those of data/a\.csv, got 'b, other'"
    ):
        open_source("data/*.csv").columns()


def test_a_file_that_changed_is_not_read(data: Path) -> None:
    source = open_source("data/a.csv")
    (data / "a.csv").write_text("a;b\n1;2\n9;9\n")
    with pytest.raises(Permanent, match=r"a\.csv: the file has changed since the replay began"):
        read_source(source)


def test_a_file_that_vanished_is_named(data: Path) -> None:
    source = open_source("data/a.csv")
    (data / "a.csv").unlink()
    with pytest.raises(Permanent, match=r"a\.csv: the file can no longer be read"):
        read_source(source)


def test_suffixes_belong_to_one_format() -> None:
    suffixes = [suffix for entry in FORMATS.values() for suffix in entry.suffixes]
    assert len(suffixes) == len(set(suffixes))


def test_every_option_has_a_description() -> None:
    for entry in FORMATS.values():
        assert all(option.description for option in entry.options.model_fields.values())


@pytest.mark.parametrize(("password", "warned"), [("s3cret", True), ("${env:PGPASS}", False), ("", False)])
def test_a_password_in_plain_text_is_taken_with_a_warning(
    password: str, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PGPASS", "s3cret")
    login = f"me:{password}" if password else "me"
    with pytest.raises(Transient):
        open_source(f"postgresql://{login}@127.0.0.1:1/x?table=t&where=mail = 'a:b@c.de'")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert "s3cret" not in caplog.text
