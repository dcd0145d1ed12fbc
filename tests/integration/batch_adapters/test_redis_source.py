"""A Redis stream's range as a source: what is meant, where it ends, clear errors."""

from __future__ import annotations

import itertools
from urllib.parse import urlsplit

import pytest
from redis import Redis

from batch_adapters.catalogue import open_source
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.testing.sources import SOURCE, read_chunks, read_source
from tests.services.native import free_ports
from tests.services.redis import RedisServer

_numbers = itertools.count()


@pytest.fixture
def key(redis: RedisServer) -> str:
    """A stream of ten entries with the ids 10-1 to 100-1."""
    name = f"range-{next(_numbers)}"
    with Redis.from_url(redis.url) as client:
        for number in range(1, 11):
            client.xadd(name, {"n": str(number)}, f"{number * 10}-1")
    return name


def read(redis: RedisServer, options: str, parts: int = 1) -> list[object]:
    return [record.value for record in read_source(open_source(f"{redis.url}?{options}"), parts)]


@pytest.mark.parametrize("parts", [1, 3])
def test_start_and_end_are_those_of_xrange(redis: RedisServer, key: str, parts: int) -> None:
    found = read(redis, f"stream={key}&fields=n,missing&start=30&end=60", parts)
    assert found == [("3", None), ("4", None), ("5", None), ("6", None)]
    assert read(redis, f"stream={key}&value=n&end=20-0", parts) == [b"1"]


def test_it_ends_with_the_last_entry_that_was_there(redis: RedisServer, key: str) -> None:
    split = open_source(f"{redis.url}?stream={key}&fields=n").splits(1)[0]
    count = 0
    with Redis.from_url(redis.url) as client:
        for chunk in read_chunks(split.open(SOURCE, 0), 0, 400):
            count += len(chunk)
            client.xadd(key, {"n": "more"})
            client.xadd(key, {"n": "more"})
    assert count == 10


def test_mistakes_are_found_before_an_entry_is_read(redis: RedisServer, key: str) -> None:
    with Redis.from_url(redis.url) as client:
        client.set("a text", "x")
    for options, says in (
        ("stream=nothing&fields=n", "no such stream"),
        ("stream=a%20text&fields=n", "holds a string"),
        (f"stream={key}", "either fields"),
        (f"stream={key}&fields=n&value=n", "either fields"),
        ("fields=n", "stream"),
    ):
        with pytest.raises(BadConfig, match=says):
            open_source(f"{redis.url}?{options}")


def test_who_cannot_connect_learns_why_and_no_password_is_shown(redis: RedisServer, key: str) -> None:
    with pytest.raises(Permanent, match="login") as refused:
        open_source(f"{redis.url.replace('redispass', 's3cret')}?stream={key}&fields=n")
    (port,) = free_ports(1)
    with pytest.raises(Transient, match="connection failed") as away:
        open_source(f"redis://:s3cret@127.0.0.1:{port}/0?stream={key}&fields=n")
    assert "s3cret" not in f"{refused.value}{away.value}"


def test_a_stream_by_its_dictionary(redis: RedisServer, key: str) -> None:
    where = urlsplit(redis.url)
    given = {
        "type": "stream",
        "stream_type": "redis_streams",
        "host": "127.0.0.1",
        "port": where.port,
        "password": where.password,
        "stream": key,
        "fields": ["n"],
        "start": "90",
    }
    assert [record.value for record in read_source(open_source(given))] == [("9",), ("10",)]
