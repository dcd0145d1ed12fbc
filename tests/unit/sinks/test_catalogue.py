"""A URI, the dictionary that means the same, and the sink of ``sc.sinks`` that both are."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

import pytest

from streamcore.cli.connectors import sinks as rows_of_sinks
from streamcore.contracts import Sink
from streamcore.errors import BadConfig
from streamcore.sinks import (
    Csv,
    Excel,
    Http,
    JsonLines,
    MongoDB,
    MySQL,
    Parquet,
    Postgres,
    RedisHash,
    RedisSortedSet,
    RedisStream,
    SQLite,
    Topic,
    open_sink,
)

SAME: list[tuple[Sink, str, dict[str, object]]] = [
    (
        Postgres(
            "users", "postgresql://app:${env:P}@db:5432/shop?sslmode=disable", key=["a", "b"], create=True
        ),
        "postgresql://app:${env:P}@db:5432/shop?table=users&sslmode=disable&key=a,b&create=true",
        {
            "type": "database",
            "database_type": "postgresql",
            "host": "db",
            "port": 5432,
            "database": "shop",
            "username": "app",
            "password": "${env:P}",
            "sslmode": "disable",
            "table": "users",
            "key": ["a", "b"],
            "create": True,
        },
    ),
    (
        MySQL("users", "mysql://db/shop", schema="x", name="n"),
        "mysql://db/shop?table=users&schema=x&name=n",
        {
            "type": "database",
            "connection_string": "mysql://db/shop",
            "table": "users",
            "schema": "x",
            "name": "n",
        },
    ),
    (
        SQLite("users", "sqlite:///a%20b.db", key="id"),
        "sqlite:///a%20b.db?table=users&key=id",
        {"type": "database", "database_type": "sqlite", "database": "a b.db", "table": "users", "key": "id"},
    ),
    (
        MongoDB("users", "mongodb://h/shop?replicaSet=a", cut_times=True),
        "mongodb://h/shop?collection=users&replicaSet=a&cut_times=true",
        {
            "type": "database",
            "connection_string": "mongodb://h/shop?replicaSet=a",
            "collection": "users",
            "cut_times": True,
        },
    ),
    (
        RedisStream("a", "rediss://:${env:P}@h/0?ssl_ca_certs=ca.pem", max_length=9),
        "rediss://:${env:P}@h/0?stream=a&max_length=9&ssl_ca_certs=ca.pem",
        {
            "type": "database",
            "connection_string": "rediss://:${env:P}@h/0?ssl_ca_certs=ca.pem",
            "stream": "a",
            "max_length": 9,
        },
    ),
    (
        RedisHash("user:{id}", "redis://h/0"),
        "redis://h/0?hash=user:{id}",
        {"type": "stream", "stream_type": "redis", "host": "h", "hash": "user:{id}"},
    ),
    (
        RedisSortedSet("late:{day}", "origin", "delay", "redis://h/0", name="n"),
        "redis://h/0?sorted_set=late:{day}&member=origin&score=delay&name=n",
        {
            "type": "database",
            "connection_string": "redis://h/0",
            "sorted_set": "late:{day}",
            "member": "origin",
            "score": "delay",
            "name": "n",
        },
    ),
    (
        Parquet("output/data.parquet"),
        "output/data.parquet",
        {"type": "file", "file_path": "output/data.parquet", "file_format": "parquet"},
    ),
    (
        Csv("out", partition_by=["a", "b"], separator=";"),
        "out?format=csv&partition_by=a,b&separator=;",
        {
            "type": "file",
            "file_path": "out",
            "file_format": "csv",
            "delimiter": ";",
            "partition_by": ["a", "b"],
        },
    ),
    (
        Csv("/tmp/x.tsv", separator="\t"),
        "file:///tmp/x.tsv",
        {"type": "file", "file_path": "/tmp/x.tsv", "encoding": "UTF-8"},
    ),
    (
        JsonLines("x.jsonl"),
        "x.jsonl?layout=lines",
        {"type": "file", "file_path": "x.jsonl", "file_format": "ndjson"},
    ),
    (
        Excel("x", roll_rows=5),
        "x?format=excel&roll_rows=5",
        {"type": "file", "path": "x", "format": "xlsx", "roll_rows": 5},
    ),
    (
        Parquet("s3://b/data/?endpoint=https%3A%2F%2Fh%3A9&access_key=k&secret_key=${env:S}", roll_seconds=2),
        "s3://b/data/?secret_key=${env:S}&roll_seconds=2&endpoint=https://h:9&access_key=k&format=parquet",
        {
            "type": "object_storage",
            "storage_type": "minio",
            "bucket_name": "b",
            "prefix": "data/",
            "endpoint": "https://h:9",
            "access_key": "k",
            "secret_key": "${env:S}",
            "file_format": "parquet",
            "roll_seconds": 2.0,
        },
    ),
    (
        Topic(
            "late",
            "origin",
            guarantee="exactly-once",
            url="kafka://u:${env:P}@h1:9092,h2:9092?mechanism=PLAIN",
        ),
        "kafka://u:${env:P}@h1:9092,h2:9092/late?mechanism=PLAIN&key=origin&guarantee=exactly-once",
        {
            "type": "stream",
            "stream_type": "kafka",
            "bootstrap_servers": ["h1:9092", "h2:9092"],
            "topic": "late",
            "username": "u",
            "password": "${env:P}",
            "mechanism": "PLAIN",
            "key": "origin",
            "guarantee": "exactly-once",
        },
    ),
    (
        Http("https://api/rows?q=1", bearer_token="${env:T}", batch_rows=5, headers={"X-V": "2"}, retries=1),
        "https://api/rows?q=1&bearer_token=${env:T}&batch_rows=5&header.X-V=2&retries=1",
        {
            "type": "api",
            "base_url": "https://api",
            "endpoint": "/rows",
            "auth_type": "bearer",
            "bearer_token": "${env:T}",
            "batch_rows": 5,
            "headers": {"X-V": 2},
            "params": {"q": 1},
            "retry_count": 1,
        },
    ),
]


@pytest.mark.parametrize(("sink", "uri", "configuration"), SAME, ids=lambda value: type(value).__name__)
def test_a_uri_and_a_dictionary_mean_a_sink(
    sink: Sink, uri: str, configuration: Mapping[str, object]
) -> None:
    for found in (open_sink(uri), open_sink(configuration)):
        assert type(found) is type(sink)
        assert shown(found) == shown(sink)


def shown(sink: Sink) -> dict[str, object]:
    """All arguments, those that are not printed too; order and case of a query mean nothing."""
    fields = [field.name for field in dataclasses.fields(sink) if field.init]
    return {name: unordered(getattr(sink, name)) for name in fields}


def unordered(value: object) -> object:
    if not isinstance(value, str):
        return value
    base, _, query = value.partition("?")
    return base, sorted(query.split("&"))


def test_every_sink_has_a_uri() -> None:
    assert [row.name for row in rows_of_sinks() if not row.uris] == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("oracle://s3cret@h/x", "no sink for this scheme, got 'oracle', allowed: file, s3, postgresql"),
        ("postgre://h/x", "did you mean 'postgres"),
        ("postgresql://u:s3cret@h/x", "table is missing; add table="),
        ("postgresql://u:s3cret@h/x?table=t&create=maybe", "option create: .*boolean.*got 'maybe'"),
        ("mongodb://h/x", "collection is missing"),
        ("redis://:s3cret@h/0", r"h/0: what is written.*stream=KEY, hash=user"),
        ("redis://:s3cret@h/0?stream=a&hash=b:{id}", "got .*'stream', 'hash'"),
        ("redis://:s3cret@h/0?hash=b:{id}&max_length=5", "got 'max_length', allowed: pattern, name"),
        ("redis://:s3cret@h/0?sorted_set=a&member=b", "score is missing"),
        ("sqlite:///x.db?table=t&craete=true", "got 'craete', allowed: table, key, create.*mean 'create'"),
        ("kafka://u:s3cret@h", "which topic"),
        ("out/late", "in which format.*parquet, csv, json, excel"),
        ("out/late?format=parket", "got 'parket'.*mean 'parquet'"),
        ("out/late.csv?roll_row=1", "got 'roll_row'.*mean 'roll_rows'"),
        ("out/late.parquet?separator=;", "got 'separator'"),
        ("s3://b/late?format=csv&endpiont=x", "got 'endpiont'"),
        ({"file_path": "x.csv"}, "a sink needs a type, allowed: database, file, api, object_storage, stream"),
        (
            {"type": "file", "file_path": "x.csv", "encoding": "latin-1"},
            "with encoding utf-8 only, got 'latin-1'",
        ),
        ({"type": "file", "file_path": "x", "glob": "*.csv"}, "a sink has no such key, got 'glob'; remove"),
        ({"type": "file", "file_path": "x.csv", "delimeter": ";"}, "mean 'delimiter'"),
        (
            {"type": "database", "connection_string": "postgresql://u:s3cret@h/x", "tabel": "t"},
            "got 'tabel'.*mean 'table'",
        ),
        ({"type": "database", "connection_string": "oracle://s3cret@h/x"}, "no sink for this database"),
    ],
)
def test_mistakes_are_told_without_secrets(given: str | dict[str, object], says: str) -> None:
    with pytest.raises(BadConfig, match=says) as caught:
        open_sink(given)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://u:s3cret@h/x?table=t",
        "https://api/x?bearer_token=s3cret",
        "s3://b/x?format=csv&access_key=k&secret_key=s3cret",
        {"type": "api", "base_url": "https://api", "bearer_token": "s3cret"},
        {"type": "database", "connection_string": "mysql://u:s3cret@h/x", "table": "t"},
    ],
)
def test_a_secret_in_plain_text_is_taken_with_a_warning_and_never_shown(
    given: str | dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        sink = open_sink(given)
    assert "in plain text" in caplog.text
    assert "s3cret" not in caplog.text + repr(sink) + str(getattr(sink, "target", ""))
    assert any("s3cret" in str(getattr(sink, f.name)) for f in dataclasses.fields(sink))


def test_a_whole_address_may_be_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URL", "postgresql://u:pw@h/x?sslmode=disable")
    for given in (
        "${env:URL}&table=t",
        {"type": "database", "connection_string": "${env:URL}", "table": "t"},
    ):
        sink = open_sink(given)
        assert isinstance(sink, Postgres)
        assert (sink.table, sink.url) == ("t", "postgresql://u:pw@h/x?sslmode=disable")


def test_options_win_over_the_query() -> None:
    assert open_sink("out/a.csv?separator=;", separator=",") == Csv("out/a.csv")
    assert open_sink("out/a.csv", format="parquet") == Parquet("out/a.csv")
