"""Redis streams: who is given what, acknowledged when it is durable, and taken from those that are gone."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import redis as driver

from streamcore.errors import BadConfig, Permanent
from streamcore.sources.catalogue import open_unbounded
from streamcore.sources.redis_streams import Stream
from streamcore.testing.unbounded import ids_of, polled, reading
from tests.faults.processes import WorkerProcess
from tests.integration.sources.test_polling import MODULE, rows_in, until
from tests.services.redis import RedisServer

_numbers = itertools.count()


class Key:
    """A stream of its own, with the group "feed"."""

    def __init__(self, url: str) -> None:
        self.url, self.key, self.client = url, f"stream-{next(_numbers)}", driver.Redis.from_url(url)
        self.client.xgroup_create(self.key, "feed", id="0", mkstream=True)

    def add(self, *ids: int, **fields: bytes) -> None:
        for i in ids:
            self.client.xadd(self.key, {"id": str(i), "name": "x", "version": "1", **fields})

    def uri(self, options: str = "fields=id,name,version") -> str:
        return f"{self.url}?stream={self.key}&group=feed&{options}"

    def source(self, options: str = "fields=id,name,version") -> Stream:
        found = open_unbounded(self.uri(options))
        assert isinstance(found, Stream)
        return replace(found, block=0.01)

    def pending(self) -> int:
        """How many entries were given and not acknowledged."""
        return int(self.client.xpending(self.key, "feed")["pending"])

    def consumers(self) -> int:
        return len(self.client.xinfo_consumers(self.key, "feed"))


@pytest.fixture
def key(redis: RedisServer) -> Iterator[Key]:
    made = Key(redis.url)
    yield made
    made.client.delete(made.key)
    made.client.close()


def test_entries_are_acknowledged_when_they_are_durable_and_not_before(key: Key) -> None:
    key.add(*range(10))
    with reading(key.source()) as reader:
        found = polled(reader, 10)
        assert key.pending() == 10
        for one in found:
            reader.forget(one.bookmark)
        assert key.pending() == 0
    assert key.consumers() == 0, "who stops in order leaves no name behind"


def test_other_consumers_of_the_group_have_their_share(key: Key) -> None:
    key.add(*range(10))
    given = key.client.xreadgroup("feed", "somebody", {key.key: ">"}, 4)
    assert len(given[0][1]) == 4
    with reading(key.source()) as reader:
        assert [id for one in polled(reader, 6) for id, _ in ids_of(one)] == [4, 5, 6, 7, 8, 9]


def test_what_another_consumer_has_kept_for_too_long_is_taken(key: Key) -> None:
    key.add(*range(4))
    key.client.xreadgroup("feed", "somebody who is gone", {key.key: ">"}, 3)
    with reading(key.source("fields=id&claim=50ms")) as reader:
        assert sorted(id for one in polled(reader, 4) for id, _ in ids_of(one)) == [0, 1, 2, 3]


def test_what_a_fenced_predecessor_was_still_given_is_not_lost(key: Key) -> None:
    """It stood still, was taken over, and reads once more before it finds out."""
    key.add(1)
    former, heir = key.source().open(b""), key.source("fields=id&claim=50ms").open(b"")
    assert heir.poll(1 << 20, 0.0) is not None
    key.add(2)
    assert former.poll(1 << 20, 0.0) is not None
    former.close()
    key.add(3)
    ids, now = list[int](), 1.0
    while len(ids) < 2:
        one = heir.poll(1 << 20, now)
        ids += [id for id, _ in ids_of(one)] if one else []
        now += 1.0
    assert sorted(ids) == [2, 3]
    heir.close()


def test_a_field_that_is_not_text_is_refused_and_its_neighbours_pass(key: Key) -> None:
    key.add(1)
    key.add(2, name=b"\xff")
    key.add(3)
    with reading(key.source()) as reader:
        (one,) = polled(reader, 2)
    chunk = one.parts[0].chunk
    assert [id for id, _ in ids_of(one)] == [1, 3]
    assert chunk.rejects.frame.select("code", "stage").rows() == [("utf8", "read")]
    assert pl.read_ipc_stream(chunk.original(1).data or b"")["name"].to_list() == [b"\xff"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", "fields=id,name or value=FIELD"),
        ("fields=id&value=row", "either"),
        ("fields=id&claim=soon", "no duration"),
    ],
)
def test_mistakes_are_found_before_an_entry_is_read(key: Key, options: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        open_unbounded(key.uri(options))


def test_a_group_is_made_on_request_only(key: Key) -> None:
    other = key.uri("fields=id").replace("group=feed", "group=other")
    with pytest.raises(BadConfig, match=r"create=true, or run: XGROUP CREATE"):
        open_unbounded(other)
    open_unbounded(f"{other}&create=true")


def test_who_may_not_is_told_so_without_a_password(key: Key) -> None:
    with pytest.raises(Permanent) as refused:
        open_unbounded(key.uri().replace("redispass", "s3cret"))
    assert "s3cret" not in str(refused.value)


@pytest.mark.slow
def test_a_worker_that_is_killed_at_every_step_has_each_entry_once(key: Key, tmp_path: Path) -> None:
    (tmp_path / "people.py").write_text(MODULE.replace("NAME", "people"))

    def worker(crash: str) -> WorkerProcess:
        return WorkerProcess(
            ["worker", "people.py", "--from", f"users={key.uri()}"],
            log=tmp_path / "worker.log",
            cwd=tmp_path,
            environment={"STREAMCORE_CRASH_POINT": crash, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "20000"},
        )

    written = 0
    for point in ("intake.before_commit:2", "live.appended:2", "pipeline.before_sinks:2"):
        key.add(*range(written, written + 300))
        written += 300
        with worker(point) as process:
            until(lambda: process.code is not None, f"killed at {point}")
            assert process.code == -9, process.output()
    with worker("") as process:
        until(lambda: len(rows_in(tmp_path)) >= written, "all entries")
        process.terminate()
        assert process.wait(60) == 0, process.output()
    assert rows_in(tmp_path) == Counter((i, 1) for i in range(written)), "none lost, none twice"
    assert key.pending() == 0
