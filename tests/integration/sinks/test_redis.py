"""What the Redis sinks do beyond the suite's laws: values, keys, deletes, full memory, lost tails, rights."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import polars as pl
import pytest
from redis import Redis

from batch_adapters.catalogue import open_source
from streamcore.batch import OP, OP_DELETE, OP_UPDATE_AFTER, OP_UPDATE_BEFORE
from streamcore.contracts import FlushReason, Sink
from streamcore.errors import BadConfig, Fenced, Permanent, Transient
from streamcore.sinks import RedisHash, RedisSortedSet, RedisStream
from streamcore.testing.sink_world import ORDERS, SinkTarget, World, batches_of, deliver, frame_of, until_done
from streamcore.testing.sources import read_source
from tests.faults.proxy import Proxy
from tests.services.native import free_ports
from tests.services.redis import PASSWORD, RedisServer

_numbers = itertools.count()
NOON = dt.datetime(2026, 1, 2, 12, 0, 0, 1)


@pytest.fixture
def key() -> str:
    return f"sink-{next(_numbers)}"


@pytest.fixture
def client(redis: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis.url, decode_responses=True) as client:
        yield client


async def write(sink: Sink, frame: pl.DataFrame, ops: Sequence[int] = ()) -> World:
    """Deliver *frame* in one batch, with *ops*; the world knows which rows were refused."""
    world = World(cast(SinkTarget, SimpleNamespace(sink=sink)), frame.schema)
    sink.check(frame.schema)
    writer = await world.writer()
    try:
        start = (await writer.open({ORDERS: 0}))[ORDERS]
        for batch in batches_of(frame, [], ORDERS, first=start):
            marked = batch.frame.with_columns(pl.Series(OP, ops or [0] * frame.height, pl.UInt8))
            await writer.write(batch.with_frame(marked))
        assert await writer.flush(FlushReason.END) == {ORDERS: start + frame.height}
    finally:
        await writer.close()
    return world


# ---- values

VALUES: Mapping[str, tuple[pl.DataType, object, str]] = {
    "i": (pl.Int64(), -(2**63), "-9223372036854775808"),
    "u": (pl.UInt64(), 2**64 - 1, "18446744073709551615"),
    "f32": (pl.Float32(), 0.1, "0.1"),
    "f64": (pl.Float64(), 1e300, "1e+300"),
    "infinite": (pl.Float64(), float("-inf"), "-inf"),
    "yes": (pl.Boolean(), True, "true"),
    "text": (pl.String(), "Zoë\0\r\n", "Zoë\0\r\n"),
    "empty": (pl.String(), "", ""),
    "enum": (pl.Enum(["a", "b"]), "b", "b"),
    "day": (pl.Date(), dt.date(2026, 1, 2), "2026-01-02"),
    "time": (pl.Time(), dt.time(1, 2, 3, 4), "01:02:03.000004"),
    "at": (pl.Datetime("us"), NOON, "2026-01-02T12:00:00.000001"),
    "zone": (
        pl.Datetime("ms", "Asia/Tokyo"),
        NOON.replace(tzinfo=dt.timezone.utc),
        "2026-01-02T12:00:00.000Z",
    ),
    "span": (pl.Duration("us"), dt.timedelta(1, 2, 3), "P1DT2.000003S"),
    "price": (pl.Decimal(20, 2), Decimal("-1.10"), "-1.10"),
    "list": (pl.List(pl.Int64()), [1, None], "[1,null]"),
    "deep": (pl.Struct({"a": pl.List(pl.String())}), {"a": ['"', None]}, '{"a":["\\"",null]}'),
}


async def test_every_type_is_text_and_a_null_is_no_field(client: Redis, redis: RedisServer, key: str) -> None:
    columns = pl.Schema({name: dtype for name, (dtype, _, _) in VALUES.items()} | {"n": pl.Int8()})
    row = {name: value for name, (_, value, _) in VALUES.items()}
    frame = pl.DataFrame([row, {"n": 2}], schema=columns)
    wanted = [{name: text for name, (_, _, text) in VALUES.items()}, {"n": "2"}]
    assert not (await write(RedisStream(key, redis.url), frame)).refused
    assert [fields for _, fields in client.xrange(key)] == wanted
    hashed = frame.with_columns(pl.Series("id", ["a", "b"]))
    assert not (await write(RedisHash(f"{key}:{{id}}", redis.url), hashed)).refused
    found = [client.hgetall(f"{key}:{name}") for name in "ab"]
    assert found == [wanted[0] | {"id": "a"}, wanted[1] | {"id": "b"}]


async def test_bytes_are_bytes(redis: RedisServer, key: str) -> None:
    value = bytes(range(256)) * 300
    await write(RedisStream(key, redis.url), pl.DataFrame({"b": [value, b""]}))
    with Redis.from_url(redis.url) as raw:
        assert [fields for _, fields in raw.xrange(key)] == [{b"b": value}, {b"b": b""}]


async def test_what_a_stream_holds_is_read_by_our_own_source(redis: RedisServer, key: str) -> None:
    frame = frame_of(range(6000))
    await write(RedisStream(key, redis.url), frame)
    source = open_source(f"{redis.url}?stream={key}&fields=id,name,value")
    found = [cast(tuple[str, str | None, str], record.value) for record in read_source(source)]
    assert [(int(i), name, float(value)) for i, name, value in found] == frame.rows()


async def test_years_that_no_stream_reads_are_dead_letters(redis: RedisServer, key: str) -> None:
    far = pl.Series([0, 400_000_000_000_000_000, -80_000_000_000_000_000]).cast(pl.Datetime("us"))
    world = await write(RedisStream(key, redis.url), pl.DataFrame({"at": far}))
    assert (sorted(world.refused), world.codes) == ([(ORDERS, 1, 0), (ORDERS, 2, 0)], {"range"})


# ---- keys


async def test_keys_are_made_of_columns(client: Redis, redis: RedisServer, key: str) -> None:
    frame = pl.DataFrame(
        {"who": ["ann", "bob", "ann", "a:b", None], "day": [dt.date(2026, 1, 1)] * 5, "n": range(5)}
    )
    stream = await write(RedisStream(f"{key}:{{who}}:{{day}}", redis.url), frame)
    assert stream.refused.keys() == {(ORDERS, 3, 0), (ORDERS, 4, 0)}
    assert stream.codes == {"ambiguous_key", "null_key"}
    assert [fields["n"] for _, fields in client.xrange(f"{key}:ann:2026-01-01")] == ["0", "2"]
    await write(RedisSortedSet(f"{key}-top:{{day}}", "who", "n", redis.url), frame[:4])
    found = client.zrange(f"{key}-top:2026-01-01", 0, -1, withscores=True)
    assert found == [("bob", 1), ("ann", 2), ("a:b", 3)]


async def test_no_row_reaches_the_positions(client: Redis, redis: RedisServer) -> None:
    frame = pl.DataFrame({"id": ["streamcore_positions:x:y", "free"]})
    world = await write(RedisHash("{id}", redis.url), frame)
    assert (world.refused.keys(), world.codes) == ({(ORDERS, 0, 0)}, {"reserved_key"})
    assert client.delete("free") == 1
    assert not client.exists("streamcore_positions:x:y")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda url: RedisStream("", url), "columns in braces"),
        (lambda url: RedisStream("a", url, max_length=0), "max_length"),
        (lambda url: RedisStream("streamcore_positions:mine", url), "positions"),
        (lambda url: RedisHash("no column", url), "columns in braces"),
        (lambda url: RedisHash("a:{id!r}", url), "columns in braces"),
        (lambda url: RedisHash("a:{id}{name}", url), "text between"),
        (lambda url: RedisHash("a:{ids}", url), "did you mean 'id'"),
        (lambda url: RedisHash("a:{value}", url), "can't be part of a key"),
        (lambda url: RedisSortedSet("z", "id", "vale", url), "did you mean 'value'"),
        (lambda url: RedisSortedSet("z", "id", "name", url), "no number"),
    ],
)
def test_mistakes_of_a_declaration_are_found_at_once(redis: RedisServer, make: object, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        make(redis.url).check(frame_of([1]).schema)  # type: ignore[operator]


# ---- updates


async def test_an_update_leaves_other_fields_alone_and_a_delete_takes_the_hash(
    client: Redis, redis: RedisServer, key: str
) -> None:
    client.hset(f"{key}:1", mapping={"mine": "stays", "name": "old"})
    client.hset(f"{key}:2", mapping={"mine": "goes"})
    frame = pl.DataFrame({"id": [1, 1, 2, 3, 3], "name": ["old", None, "x", "y", "z"]})
    ops = [OP_UPDATE_BEFORE, OP_UPDATE_AFTER, OP_DELETE, 0, OP_UPDATE_BEFORE]
    await write(RedisHash(f"{key}:{{id}}", redis.url), frame, ops)
    assert client.hgetall(f"{key}:1") == {"id": "1", "mine": "stays"}
    assert not client.exists(f"{key}:2", f"{key}:3")


async def test_a_members_last_score_counts(client: Redis, redis: RedisServer, key: str) -> None:
    frame = pl.DataFrame({"m": ["a", "b", "a", "c"], "score": [1, 2, 2**53, None]})
    client.zadd(key, {"c": 7})
    await write(RedisSortedSet(key, "m", "score", redis.url), frame, [0, 0, 0, OP_DELETE])
    assert client.zrange(key, 0, -1, withscores=True) == [("b", 2), ("a", 2.0**53)]
    world = await write(
        RedisSortedSet(key, "m", "score", redis.url), pl.DataFrame({"m": ["d"], "score": [2**53 + 1]})
    )
    assert world.codes == {"range"}


async def test_a_stream_keeps_about_as_many_entries_as_it_should(
    client: Redis, redis: RedisServer, key: str
) -> None:
    await write(RedisStream(key, redis.url, max_length=500), frame_of(range(3000)))
    assert 500 <= client.xlen(key) < 1000
    assert client.xrevrange(key, count=1)[0][1]["id"] == "2999"


# ---- the server


@pytest.mark.slow
async def test_a_large_batch_goes_in_several_scripts(redis: RedisServer, key: str) -> None:
    """Each with its own position: a crash in between goes on there."""
    sink, frame = RedisStream(key, redis.url), frame_of(range(30_000))
    world = World(cast(SinkTarget, SimpleNamespace(sink=sink)), frame.schema)
    writer = await world.writer()
    await writer.open({ORDERS: 0})
    await deliver(writer, batches_of(frame, [], ORDERS))
    assert await writer.flush(FlushReason.END) == {ORDERS: 30_000}
    await writer.close()
    assert world.passed.count("redis.after_commit") > 2


@pytest.mark.slow
async def test_refused_rows_of_a_large_batch_are_dead_letters(
    client: Redis, redis: RedisServer, key: str
) -> None:
    client.set(f"{key}:17", "a text")
    client.rpush(f"{key}:29990", "a list")
    world = await write(RedisHash(f"{key}:{{id}}", redis.url), frame_of(range(30_000)))
    assert world.passed.count("redis.after_commit") < 20, "the server names all of them at once"
    assert world.refused.keys() == {(ORDERS, 17, 0), (ORDERS, 29_990, 0)}
    assert world.codes == {"wrong_type"}
    assert len(client.keys(f"{key}:*")) == 30_000
    assert client.get(f"{key}:17") == "a text"


async def test_a_server_that_forgot_the_scripts_is_given_them_again(redis: RedisServer, key: str) -> None:
    sink = RedisStream(key, redis.url)
    world = World(cast(SinkTarget, SimpleNamespace(sink=sink)), frame_of([]).schema)
    writer = await world.writer()
    await writer.open({ORDERS: 0})
    await deliver(writer, batches_of(frame_of(range(9)), [], ORDERS))
    with Redis.from_url(redis.url) as client:
        client.script_flush()
        with pytest.raises(Transient, match="NOSCRIPT"):
            await writer.flush(FlushReason.END)
        assert await writer.flush(FlushReason.END) == {ORDERS: 9}
        assert client.xlen(key) == 9
    await writer.close()


@pytest.mark.slow
async def test_a_full_memory_takes_all_or_nothing_and_is_waited_for(own_redis: RedisServer) -> None:
    rows = pl.DataFrame({"id": range(2000), "name": ["x" * 1000] * 2000})
    sink = RedisHash("h:{id}", own_redis.url)
    world = World(cast(SinkTarget, SimpleNamespace(sink=sink)), rows.schema)
    writer = await world.writer()
    await writer.open({ORDERS: 0})
    with Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        await deliver(writer, batches_of(rows, [], ORDERS))
        for _ in range(2):
            with pytest.raises(Transient, match="OOM"):
                await writer.flush(FlushReason.END)
        assert not client.keys("h:*")
        client.config_set("maxmemory", 0)
        assert await writer.flush(FlushReason.END) == {ORDERS: 2000}
        assert len(client.keys("h:*")) == 2000
        await writer.close()
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(Permanent, match=r"drops keys.*noeviction"):
            await world.writer()


@pytest.mark.slow
async def test_when_the_last_writes_are_lost_positions_go_back_with_the_rows(own_redis: RedisServer) -> None:
    """As by a power loss with ``appendfsync everysec``: the file is cut anywhere.

    It is written anew, as docs/guarantees.md says: Redis 7.0 leaves what is left of a script that was cut in
    the file, before what comes next, and would run it at its next start.
    """
    sink = RedisStream("s", own_redis.url)
    world = World(cast(SinkTarget, SimpleNamespace(sink=sink)), frame_of([]).schema)
    lost, position = 0, 0
    for cut in (1, 700, 5000, 20_011):
        writer = await world.writer(f"life-{cut}")
        position = (await writer.open({ORDERS: 0}))[ORDERS]
        for batch in batches_of(
            frame_of(range(position, position + 400)), range(20, 400, 20), ORDERS, first=position
        ):
            await writer.write(batch)
            await writer.flush(FlushReason.IDLE)
        await asyncio.to_thread(own_redis.kill)
        (appended,) = (own_redis.folder or Path()).glob("appendonlydir/*.incr.aof")
        with open(appended, "r+b") as file:
            file.truncate(appended.stat().st_size - cut)
        await asyncio.to_thread(own_redis.start)
        await asyncio.to_thread(written_anew, own_redis)
        more = batches_of(frame_of([position + 400]), [], ORDERS, first=position + 400)
        await deliver(writer, more)
        with pytest.raises(Permanent, match="not where this process left it"):
            await until_done(partial(writer.flush, FlushReason.END))
        await writer.close()
        heir = await world.writer("heir")
        found = (await heir.open({ORDERS: 0}))[ORDERS]
        lost += position + 400 - found
        with Redis.from_url(own_redis.url, decode_responses=True) as client:
            assert [int(fields["id"]) for _, fields in client.xrange("s")] == list(range(found))
        await heir.close()
    assert lost, "a test that lost nothing shows nothing"


async def test_when_all_data_is_gone_reading_goes_on_at_the_groups_commit(redis: RedisServer) -> None:
    url = redis.fresh_database()
    world = World(cast(SinkTarget, SimpleNamespace(sink=RedisStream("s", url))), frame_of([]).schema)
    writer = await world.writer("worker")
    await writer.open({ORDERS: 0})
    await deliver(writer, batches_of(frame_of(range(9)), [], ORDERS), FlushReason.END)
    with Redis.from_url(url) as client:
        client.flushdb()
        await deliver(writer, batches_of(frame_of([9]), [], ORDERS, first=9))
        with pytest.raises(Fenced):
            await until_done(partial(writer.flush, FlushReason.END))
        await writer.close()
        heir = await world.writer("heir")
        assert await heir.open({ORDERS: 9}) == {ORDERS: 9}, "the position is gone: the commit counts"
        await deliver(heir, batches_of(frame_of([9]), [], ORDERS, first=9), FlushReason.END)
        assert [fields[b"id"] for _, fields in client.xrange("s")] == [b"9"]
    await heir.close()


def written_anew(server: RedisServer) -> None:
    with Redis.from_url(server.url) as client:
        client.bgrewriteaof()
        deadline = time.monotonic() + 20
        while True:
            found = client.info("persistence")
            if not found["aof_rewrite_in_progress"] and not found["aof_rewrite_scheduled"]:
                assert found["aof_last_bgrewrite_status"] == "ok"
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)


async def test_a_server_that_does_not_answer_is_an_error_with_its_name(
    redis: RedisServer, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamcore.systems.redis.COMMAND_SECONDS", 0.3)
    monkeypatch.setattr("streamcore.systems.redis.CONNECT_SECONDS", 0.3)
    port = int(redis.url.rpartition(":")[2].partition("/")[0])
    async with Proxy("127.0.0.1", port) as proxy:
        proxy.freeze()
        sink = RedisStream(key, redis.url.replace(f":{port}", f":{proxy.port}"))
        world = World(cast(SinkTarget, SimpleNamespace(sink=sink)), frame_of([]).schema)
        with pytest.raises(Transient, match=f"127.0.0.1:{proxy.port}"):
            await asyncio.wait_for(world.writer(), 10)
        proxy.thaw()


async def test_rights_certificates_and_logins(redis: RedisServer, client: Redis, key: str) -> None:
    rights = ["+evalsha", "+script|load", "+hget", "+hset", "+hgetall", "+xlen", "+xadd"]
    keys = [f"~{key}", "~streamcore_positions:*"]
    client.execute_command("ACL", "SETUSER", "writer", "on", ">writerpass", "resetkeys", *keys, *rights)
    login = redis.url.replace(f":{PASSWORD}@", "writer:writerpass@")
    await write(RedisStream(key, login), frame_of(range(3)))
    assert client.xlen(key) == 3
    with pytest.raises(Permanent, match=r"no right.*ACL SETUSER"):
        await write(RedisStream(f"{key}-other", login), frame_of(range(3)))
    with pytest.raises(Permanent, match="login") as refused:
        await write(RedisStream(key, redis.url.replace(PASSWORD, "s3cret")), frame_of(range(3)))
    assert "s3cret" not in str(refused.value)
    (port,) = free_ports(1)
    with pytest.raises(Transient, match="connection failed"):
        await write(RedisStream(key, f"redis://127.0.0.1:{port}/0"), frame_of(range(3)))
    assert not client.exists(f"{key}-other")


async def test_tls_is_verified(redis: RedisServer, client: Redis, key: str) -> None:
    if not redis.tls_url:
        pytest.skip("TEST_REDIS names a server without TLS")
    await write(RedisStream(key, redis.tls_url), frame_of(range(3)))
    assert client.xlen(key) == 3
    with pytest.raises(Permanent, match=r"certificate was not accepted.*ssl_ca_certs"):
        await write(RedisStream(key, redis.tls_url.partition("?")[0]), frame_of(range(3)))
