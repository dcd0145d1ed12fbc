"""Lookups in a real Redis: hashes by key, what it says when something is wrong, and one that goes away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import polars as pl
import pytest
import redis as client

import streamcore as sc
from streamcore.errors import Permanent, StreamcoreError, Transient
from tests.integration.references.jobs import CLICK, ask, check_rows_wait, looked_up
from tests.services.redis import PASSWORD, RedisServer

COLUMNS = {"id": "int64", "code": "string", "name": "string", "age": "int32", "since": "date"}


def filled(server: RedisServer) -> RedisServer:
    with client.Redis.from_url(server.url) as connection:
        commands = connection.pipeline(transaction=False)
        for i in range(0, 10_000, 2):
            values = {"name": f"nä{i}", "age": i % 100, "since": "2026-01-01"}
            commands.hset(f"user:{i}:c{i % 3}", mapping=values)
            commands.hset(f"one:{i}", mapping={"name": f"n{i}"})
        commands.hset("user:1:c1", mapping={"name": "young", "age": "12.5"})
        commands.hset("user:3:c0", mapping={"other": "x", "name": "three"})
        commands.hset("user:5:c2", mapping={"name": b"\xff", "other": "x"})
        commands.set("user:7:c1", "no hash")
        commands.execute()
    return server


@pytest.fixture(scope="module")
def server(redis: RedisServer) -> RedisServer:
    return filled(redis)


def reference(url: str, **given: object) -> sc.references.Redis:
    declared = {"pattern": "user:{id}:{code}", "columns": COLUMNS, "url": url, **given}
    return sc.references.Redis(**declared)  # type: ignore[arg-type]


def keys_of(*pairs: tuple[int, str]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"id": pl.Int64, "code": pl.String}, orient="row")


@pytest.mark.parametrize("tls", [False, True])
def test_rows_are_the_fields_in_their_types(server: RedisServer, tls: bool) -> None:
    url = server.tls_url if tls else server.url
    if not url:
        pytest.skip("TEST_REDIS names a server without TLS")
    what = reference(url)
    found = asyncio.run(ask(what, keys_of((4, "c1"), (4, "c2"), (3, "c0"))))
    assert found.schema == what.types
    assert found.cast({"since": pl.String}).rows() == [
        (4, "c1", "nä4", 4, "2026-01-01"),
        (3, "c0", "three", None, None),
    ]
    one = reference(url, pattern="one:{id}", columns={"id": "int64", "name": "string"})
    many = asyncio.run(ask(one, pl.DataFrame({"id": range(20_000)})))
    assert many["id"].to_list() == list(range(0, 10_000, 2))
    assert many["name"][7] == "n14"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ((1, "c1"), "not of the types declared, got 'age Int32'"),
        ((5, "c2"), "not of the types declared, got 'name String'"),
        ((7, "c1"), "WRONGTYPE"),
    ],
)
def test_values_that_do_not_fit_stop_with_the_field(
    server: RedisServer, key: tuple[int, str], says: str
) -> None:
    with pytest.raises(Permanent) as refused:
        asyncio.run(ask(reference(server.url), keys_of(key)))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("login", "pattern", "says"),
    [
        ("", "user:{id}:{code}", "login"),
        (":wrong@", "user:{id}:{code}", "login"),
        ("reader:readerpass@", "other:{id}:{code}", "no right"),
    ],
)
def test_logins_and_rights_that_are_missing_are_said(
    server: RedisServer, login: str, pattern: str, says: str
) -> None:
    url = server.url.replace(f":{PASSWORD}@", login)
    with pytest.raises(Permanent, match=says) as refused:
        asyncio.run(ask(reference(url, pattern=pattern), keys_of((4, "c1"))))
    assert "pass" not in str(refused.value).replace("password", "")
    readable = asyncio.run(
        ask(reference(server.url.replace(f":{PASSWORD}@", "reader:readerpass@")), keys_of((4, "c1")))
    )
    assert readable.height == 1


def test_a_server_that_is_not_known_is_not_believed(server: RedisServer) -> None:
    if not server.tls_url:
        pytest.skip("TEST_REDIS names a server without TLS")
    with pytest.raises(Permanent, match=r"certificate was not accepted.*ssl_ca_certs"):
        asyncio.run(ask(reference(server.tls_url.partition("?")[0]), keys_of((4, "c1"))))


def test_a_server_that_is_not_there_may_come() -> None:
    with pytest.raises(Transient, match="connection failed"):
        asyncio.run(ask(reference("redis://127.0.0.1:1/0"), keys_of((4, "c1"))))


def test_rows_wait_while_the_server_is_down(own_redis: RedisServer, tmp_path: Path) -> None:
    filled(own_redis)
    named = {"id": "int64", "name": "string"}
    users = sc.references.Redis("one:{id}", columns=named, url=own_redis.url, cache_for="0s")
    check_rows_wait(users, own_redis, tmp_path)


def test_a_job_does_not_start_with_a_login_that_is_refused(server: RedisServer, tmp_path: Path) -> None:
    wrong = server.url.replace(PASSWORD, "wrong")
    nobody = reference(wrong, pattern="one:{id}", columns={"id": "int64", "n": "string"})
    with pytest.raises(StreamcoreError, match="refused the login"):
        looked_up(nobody, CLICK, tmp_path)
