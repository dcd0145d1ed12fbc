"""REST collections that are polled: what is asked, when there is nothing new, servers that fail, kill -9."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from batch_adapters.rest_marks import MOST_KNOWN
from streamcore.contracts.unbounded import Polled, UnboundedReader
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.sources.catalogue import open_unbounded
from streamcore.testing.unbounded import ids_of, polled, reader_gives, reading
from streamcore.transport.kafka_intake import MOST_BOOKMARK_BYTES
from tests.faults.processes import WorkerProcess
from tests.integration.sources.test_polling import MODULE, rows_in, until
from tests.services.rest import RestServer, cut, rest_server, saying, status, waits


@pytest.fixture
def server() -> Iterator[RestServer]:
    with rest_server() as running:
        running.since = lambda row, since: isinstance(row, dict) and row["version"] >= int(since)
        yield running


def rows(count: int, first: int = 0) -> list[dict[str, object]]:
    return [{"id": n, "name": f"name {n}", "version": n} for n in range(first, first + count)]


def uri(server: RestServer, path: str = "/all?poll=version", options: str = "") -> str:
    return f"{server.url}{path}&every=10ms&allow_private=true{options}"


def found_ids(found: list[Polled]) -> list[int]:
    return [id for one in found for id, _ in ids_of(one)]


def to_the_rounds_end(reader: UnboundedReader) -> None:
    """Until there is nothing more now."""
    deadline = time.monotonic() + 60
    while (one := reader.poll(1 << 20, 0.0)) is not None:
        assert not one.parts
        assert time.monotonic() < deadline


def test_each_round_asks_from_the_highest_mark_on_less_the_lag(server: RestServer) -> None:
    server.rows = rows(50)
    with reading(open_unbounded(uri(server, options="&lag=5&since=3&since_param=since"))) as reader:
        assert found_ids(polled(reader, 47)) == list(range(3, 50))
        server.rows = [*rows(60), {"id": 1000, "name": "late", "version": 46}]
        assert sorted(found_ids(polled(reader, 11))) == [*range(50, 60), 1000]
        to_the_rounds_end(reader)
    assert server.asked[:2] == ["/all?since=3", "/all?since=44"]
    assert server.asked[-1] == "/all?since=54"


def test_who_goes_on_behind_a_whole_round_reads_rows_that_moved_meanwhile(server: RestServer) -> None:
    """The pages are in the order of the marks: a page of the old round is another one by then."""
    server.rows = rows(120, 1)
    source = open_unbounded(
        uri(server, "/by/offset?poll=version&since_param=since&pagination=offset&page_size=50")
    )
    kept: list[bytes] = []
    with reading(source) as reader:
        while (one := reader.poll(1 << 20, 0.0)) is not None:
            kept += [one.bookmark] if one.parts or one.keep else []
        asked = len(server.asked)
        to_the_rounds_end(reader)
        assert len(server.asked) > asked, "a round without rows, of which nothing is kept"
    changed = [{"id": n, "name": "new", "version": 120 + n} for n in range(1, 61)]
    server.rows = [*rows(60, 61), *changed]
    with reading(source, kept[-1]) as reader:
        assert sorted(found_ids(polled(reader, 60))) == [*range(1, 61)]


def test_a_page_of_more_rows_than_a_bookmark_holds_is_read_at_once(server: RestServer) -> None:
    """Kafka would refuse a bookmark from within it, and a lag is not at fault."""
    count = 2 * MOST_KNOWN
    server.rows = rows(count)
    source = open_unbounded(uri(server, options="&since_param=since"))
    with reading(source) as reader:
        found = polled(reader, count)
        assert found_ids(found) == list(range(count))
        assert max(len(one.bookmark) for one in found) < MOST_BOOKMARK_BYTES
    with reading(source, found[-1].bookmark) as reader:
        to_the_rounds_end(reader)


def test_a_page_that_is_as_it_was_is_not_sent_again_and_the_next_ones_are_asked_for(
    server: RestServer,
) -> None:
    server.etags, server.rows = True, rows(40)
    query = "/by/page?poll=version&pagination=page&page_size=20&lag=100"
    with reading(open_unbounded(uri(server, query))) as reader:
        assert len(found_ids(polled(reader, 40))) == 40
        server.rows = [*rows(40), {"id": 1000, "name": "late", "version": 30}]
        assert found_ids(polled(reader, 1)) == [1000]
    tagged = [headers for headers in server.headers if "if-none-match" in headers]
    assert len(tagged) >= 2


def test_what_may_pass_is_waited_for_without_holding_a_poll_up(server: RestServer) -> None:
    server.rows = rows(5)
    server.faults.extend([status(429, retry_after="2"), cut])
    with reading(open_unbounded(uri(server))) as reader:
        began = time.monotonic()
        one = reader.poll(1 << 20, 0.0)
        assert one is not None, "no pause of every= until the answer is there"
        assert not one.parts
        assert time.monotonic() - began < 1.8
        assert found_ids([reader_gives(reader, 1 << 20)]) == list(range(5))


def test_a_silent_server_is_an_error_within_its_time_and_who_closes_does_not_wait(
    server: RestServer,
) -> None:
    server.faults.extend([waits(server)] * 10)
    times = "&timeout_seconds=0.7&give_up_seconds=1.5"
    silent = pytest.raises(Transient, match=r"127.0.0.1:\d+/all: no whole answer within")
    with reading(open_unbounded(uri(server, options=times))) as reader, silent:
        reader_gives(reader, 1 << 20)
    reader = open_unbounded(uri(server)).open(b"")
    reader.poll(1 << 20, 0.0)
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < 5


def test_rows_without_a_mark_and_marks_of_two_kinds_end_it(server: RestServer) -> None:
    for document, says in (
        ('[{"id": 1, "version": 1}, {"id": 2}]', "no mark"),
        ('[{"id": 1, "version": 1}, {"id": 2, "version": "x"}]', "several kinds"),
    ):
        server.faults.append(saying(document))
        with reading(open_unbounded(uri(server))) as reader, pytest.raises(Permanent, match=says):
            reader_gives(reader, 1 << 20)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("/all?rows_path=.", "add poll="),
        ("/all?poll=version&every=soon", "no duration"),
        ("/all?poll=version&lag=soon", "no duration"),
        ("/all?poll=version&evry=1s", "did you mean 'every'"),
        ("/all?poll=version&pagination=cursor", "cursor_path="),
    ],
)
def test_mistakes_are_found_before_anything_is_asked(server: RestServer, query: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        open_unbounded(server.url + query)
    assert not server.asked


def test_no_secret_is_shown_or_kept(server: RestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    server.rows = rows(30)
    keyed = "&api_key=${env:TOKEN}&api_key_param=key"
    source = open_unbounded(uri(server, "/by/link?poll=version&page_size=10", keyed))
    with reading(source) as reader:
        found = polled(reader, 30, 500)
    assert "key=s3cret" in server.asked[0]
    kept = b"".join(one.bookmark for one in found)
    assert "s3cret" not in f"{source!r}{source.uri}{source.identity()}{kept!r}"


@pytest.mark.slow
def test_a_worker_that_is_killed_has_each_row_once(server: RestServer, tmp_path: Path) -> None:
    (tmp_path / "people.py").write_text(MODULE.replace("NAME", "people"))
    source = uri(server, "/by/page?poll=version&pagination=page&page_size=50&lag=20")
    server.rows = rows(300)

    def worker(crash: str) -> WorkerProcess:
        return WorkerProcess(
            ["worker", "people.py", "--from", f"users={source}"],
            log=tmp_path / "worker.log",
            cwd=tmp_path,
            environment={"STREAMCORE_CRASH_POINT": crash, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "4096"},
        )

    for point in ("intake.before_commit:3", "live.appended:12"):
        with worker(point) as process:
            until(lambda: process.code is not None, f"killed at {point}")
            assert process.code == -9, process.output()
        server.rows = rows(len(server.rows) + 200)
    with worker("") as process:
        until(lambda: len(rows_in(tmp_path)) >= len(server.rows), "all rows")
        server.rows = rows(len(server.rows) + 10)
        until(lambda: len(rows_in(tmp_path)) >= len(server.rows), "those that came while it ran")
        process.terminate()
        assert process.wait(60) == 0, process.output()
    written = [orjson.loads(orjson.dumps(row)) for row in server.rows]
    assert rows_in(tmp_path) == Counter((row["id"], row["version"]) for row in written)
