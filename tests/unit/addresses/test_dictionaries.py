"""The guide's dictionaries mean the same URIs and options; a wrong key is found before anything is opened."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from batch_adapters.catalogue import open_source
from streamcore.addresses.dictionaries import Named, named
from streamcore.errors import BadConfig
from streamcore.testing.sources import read_source
from tests.services.rest import rest_server

TABLE = ("table", "query", "key", "columns", "where")
REST = (
    "pagination",
    "page_size",
    "bearer_token",
    "api_key",
    "client_id",
    "client_secret",
    "token_url",
    "retries",
)
OPTIONS = {
    "database": {"postgresql": TABLE, "mysql": TABLE, "sqlite": TABLE, "mongodb": ("collection", "filter")},
    "file": {"file": ("delimiter", "encoding", "layout", "sheet")},
    "api": {"https": REST, "http": REST},
    "stream": {
        "kafka": ("from", "to"),
        "redis": ("stream", "fields"),
        "rediss": ("stream", "fields"),
    },
    "object_storage": {"s3": ("endpoint", "access_key", "secret_key", "delimiter")},
}
GUIDE: list[tuple[dict[str, object], Named]] = [
    (
        {
            "type": "database",
            "database_type": "postgresql",
            "host": "localhost",
            "port": 5432,
            "database": "mydb",
            "username": "user",
            "password": "password",
            "pool_size": 10,
        },
        Named("postgresql://user:password@localhost:5432/mydb", None, {}, 10),
    ),
    (
        {"type": "database", "connection_string": "postgresql://user:pass@host:5432/db"},
        Named("postgresql://user:pass@host:5432/db"),
    ),
    (
        {
            "type": "file",
            "file_path": "data/*.csv",
            "file_format": "csv",
            "encoding": "utf-8",
            "delimiter": ",",
        },
        Named("data/*.csv", "csv", {"encoding": "utf-8", "delimiter": ","}),
    ),
    (
        {
            "type": "api",
            "base_url": "https://api.example.com",
            "endpoint": "/users",
            "auth_type": "bearer",
            "bearer_token": "your_token",
            "pagination_type": "page",
            "page_size": 100,
        },
        Named(
            "https://api.example.com/users",
            None,
            {"bearer_token": "your_token", "pagination": "page", "page_size": 100},
        ),
    ),
    (
        {
            "type": "object_storage",
            "storage_type": "s3",
            "endpoint": "s3.amazonaws.com",
            "access_key": "your_access_key",
            "secret_key": "your_secret_key",
            "bucket_name": "my-data-bucket",
            "prefix": "data/",
        },
        Named(
            "s3://my-data-bucket/data/",
            None,
            {
                "endpoint": "s3.amazonaws.com",
                "access_key": "your_access_key",
                "secret_key": "your_secret_key",
            },
        ),
    ),
]


@pytest.mark.parametrize(("given", "meant"), GUIDE)
def test_the_guides_dictionaries(given: Mapping[str, object], meant: Named) -> None:
    assert named(given, OPTIONS) == meant


@pytest.mark.parametrize(
    ("given", "uri", "options"),
    [
        (
            "{type: database, database_type: postgres, database: d, username: a b, password: 'p@/?', "
            "table: t}",
            "postgresql://a%20b:p%40%2F%3F@localhost/d",
            {"table": "t"},
        ),
        (
            "{type: database, database_type: postgresql, host: '${H:db}', port: '${P:5432}', database: d, "
            "username: '${env:U}', password: 'x@${env:P}', sslmode: verify-full, "
            "options: {sslrootcert: /a b}}",
            "postgresql://${env:U}:x%40${env:P}@${H:db}:${P:5432}/d?sslrootcert=%2Fa%20b&sslmode=verify-full",
            {},
        ),
        (
            "{type: database, connection_string: 'postgresql+asyncpg://h/d?a=1', key: [a, b], "
            "query: select 1, ssl: 1}",
            "postgresql://h/d?a=1&ssl=1",
            {"key": "a,b", "query": "select 1"},
        ),
        ("{type: database, connection_string: '${env:URL}', table: t}", "${env:URL}", {"table": "t"}),
        ("{type: database, database_type: sqlite, database: /a/b c.db}", "sqlite:///%2Fa%2Fb%20c.db", {}),
        (
            "{type: database, database_type: mongo, database: d, collection: c}",
            "mongodb://localhost/d",
            {"collection": "c"},
        ),
        (
            "{type: file, path: data, glob: '**/*.jsonl', file_format: jsonl}",
            "data/**/*.jsonl",
            {"layout": "lines"},
        ),
        ("{type: file, file_path: x.tsv, format: TSV}", "x.tsv", {"delimiter": "\t"}),
        (
            "{type: api, url: 'https://h/a?x=1', params: {page_size: 5, q: a&b}, headers: {X-V: 2}, "
            "retry_count: 3}",
            "https://h/a?x=1&query.page_size=5&query.q=a%26b&header.X-V=2",
            {"retries": 3},
        ),
        (
            "{type: api, base_url: https://h/, endpoint: a, auth_type: basic, username: me, "
            "password: '${env:P}'}",
            "https://me:${env:P}@h/a",
            {},
        ),
        (
            "{type: stream, bootstrap_servers: [h1:9092, h2], topic: a b, username: u, password: p@, "
            "mechanism: PLAIN, from: 7}",
            "kafka://u:p%40@h1:9092,h2/a%20b?mechanism=PLAIN",
            {"from": 7},
        ),
        (
            "{type: stream, stream_type: redis, stream: s, fields: [a, b]}",
            "redis://localhost/0",
            {"stream": "s", "fields": "a,b"},
        ),
        (
            "{type: stream, stream_type: rediss, host: h, port: 6380, database: 3, password: p@, stream: s, "
            "ssl_ca_certs: ca.pem}",
            "rediss://default:p%40@h:6380/3?ssl_ca_certs=ca.pem",
            {"stream": "s"},
        ),
        (
            "{type: stream, stream_type: redis_streams, connection_string: '${env:URL}', stream: s}",
            "${env:URL}",
            {"stream": "s"},
        ),
        (
            "{type: object_storage, storage_type: minio, bucket: b, prefix: a/, glob: '*.csv'}",
            "s3://b/a/*.csv",
            {},
        ),
    ],
)
def test_other_ways_to_say_it(given: str, uri: str, options: Mapping[str, object]) -> None:
    import yaml

    found = named(yaml.safe_load(given), OPTIONS)
    assert (found.uri, found.options) == (uri, options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"a source needs a type, allowed: database, file, api, object_storage, stream"),
        ({"type": "datbase"}, r"got 'datbase'.*did you mean 'database'"),
        ({"type": "database"}, r"which database\?, allowed: mongodb, mysql, postgresql, sqlite"),
        ({"type": "database", "database_type": "postgresq"}, "did you mean 'postgresql'"),
        ({"type": "database", "database_type": "mysql", "host": "h"}, "database is missing; add database:"),
        (
            {"type": "database", "database_type": "mysql", "database": "d", "pasword": "s3cret"},
            "mean 'password'",
        ),
        (
            {"type": "database", "database_type": "mysql", "database": "d", "password": "s3cret"},
            "without a user",
        ),
        (
            {"type": "database", "connection_string": "oracle://s3cret@h"},
            r"got 'oracle', allowed: mongo, mongodb",
        ),
        ({"type": "database", "connection_string": "h:s3cret"}, "write connection_string: postgresql://"),
        (
            {"type": "database", "database_type": "mysql", "connection_string": "postgres://s3cret@h/d"},
            "another database than database_type, got 'postgres'",
        ),
        (
            {"type": "database", "database_type": "sqlite", "database": "d", "pool_size": 0},
            "pool_size is no whole",
        ),
        ({"type": "file"}, "file_path is missing"),
        ({"type": "file", "file_path": "x", "path": "y"}, "mean the same, got 'file_path, path'"),
        ({"type": "file", "file_path": "x", "delimeter": ";"}, "got 'delimeter'.*did you mean 'delimiter'"),
        ({"type": "file", "file_path": "x", "delimiter": {"a": 1}}, "delimiter is no text, number or list"),
        (
            {"type": "api", "base_url": "https://h", "auth_type": "bearer"},
            "needs bearer_token; add bearer_token",
        ),
        ({"type": "api", "base_url": "https://h", "auth_type": "oauth"}, "did you mean 'oauth2'"),
        (
            {"type": "api", "base_url": "https://h", "auth_type": "none", "api_key": "s3cret"},
            "api_key is not for auth_type none",
        ),
        ({"type": "api", "base_url": "https://h", "pagination_typ": "page"}, "did you mean 'pagination"),
        ({"type": "object_storage"}, "bucket_name is missing"),
    ],
)
def test_mistakes_name_the_key_and_what_was_meant(given: dict[str, object], message: str) -> None:
    with pytest.raises(BadConfig, match=message) as caught:
        named(given, OPTIONS)
    assert "s3cret" not in str(caught.value)


def test_a_dictionary_opens_the_same_source_as_its_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", str(tmp_path))
    (tmp_path / "x.csv").write_text("id;name\n1;a\n", encoding="utf-16")
    by_dictionary = open_source(
        {
            "type": "file",
            "path": "${DATA}",
            "glob": "*.csv",
            "delimiter": "${SEPARATOR:;}",
            "encoding": "utf-16",
        }
    )
    assert [record.value for record in read_source(by_dictionary)] == [("1", "a")]
    with sqlite3.connect(tmp_path / "x y.db") as file:
        file.execute("create table t (id integer primary key)")
        file.executemany("insert into t values (?)", [(n,) for n in range(100)])
    path = str(tmp_path / "x y.db")
    table = open_source({"type": "database", "database_type": "sqlite", "database": path, "pool_size": 2})
    assert table.fingerprint() == open_source(f"sqlite:///{path}?table=t").fingerprint()
    assert len(table.splits(8)) == 2
    assert len(read_source(table, 8)) == 100


def test_an_api_by_its_dictionary(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("API_TOKEN", "t+0ken&=")
    with rest_server() as server:
        server.rows = [{"id": n} for n in range(250)]
        api = {
            "type": "api",
            "base_url": server.url,
            "endpoint": "/by/page",
            "auth_type": "bearer",
            "bearer_token": "${env:API_TOKEN}",
            "pagination_type": "page",
            "page_size": "${SIZE:100}",
            "params": {"tag": "a&b"},
            "allow_private": True,
        }
        found = read_source(open_source(api))
        assert [json.loads(record.value)["id"] for record in found] == list(range(250))  # type: ignore[arg-type]
        assert server.headers[0]["authorization"] == "Bearer t+0ken&="
        assert server.asked[0] == "/by/page?tag=a%26b&page_size=100&page=1"
        assert not caplog.records
        api["bearer_token"] = "s3cret"
        source = open_source(api)
    assert re.search(r"holds a bearer token in plain text; write \$\{env:NAME\}", caplog.text)
    assert "s3cret" not in f"{caplog.text}{source!r}"


def test_a_password_in_plain_text_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    given = {
        "type": "api",
        "base_url": "https://h",
        "auth_type": "basic",
        "username": "u",
        "password": "s3c@ret",
    }
    open_source(given)
    assert "holds a password in plain text" in caplog.text
    assert "s3c" not in caplog.text
