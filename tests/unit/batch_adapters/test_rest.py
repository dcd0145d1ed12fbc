"""REST sources: where the rows are, how pages follow, what is refused before a row is read, and secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_adapters.catalogue import open_source
from batch_adapters.json_members import NotJson, elements, member, members
from streamcore.contracts import BoundedSource
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.testing.sources import SOURCE, read_chunks, read_source, read_split
from tests.services.rest import RestServer, cut, garbled, rest_server, saying, status

ROWS = [{"id": i} for i in range(400)]


@pytest.fixture
def server() -> Iterator[RestServer]:
    with rest_server() as running:
        running.rows = ROWS
        yield running


def source(server: RestServer, path: str, **options: str | int | bool) -> BoundedSource:
    return open_source(server.url + path, allow_private=True, **options)


def ids(of: BoundedSource) -> list[int]:
    return [json.loads(bytes_of(record.value))["id"] for record in read_source(of)]


def bytes_of(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


# ---------------------------------------------------------------- pages


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/by/page?pagination=page&page_size=150&active=yes", "/by/page?active=yes&page_size=150&page=3"),
        ("/by/offset?pagination=offset&page_size=150", "/by/offset?limit=150&offset=300"),
        (
            "/by/cursor?pagination=cursor&cursor_path=meta.next_cursor&page_size=150&rows_path=data.items",
            "/by/cursor?limit=150&cursor=c300",
        ),
        ("/by/link?page_size=150&page_size_param=limit", "/by/link?limit=150&from=300"),
    ],
)
def test_each_page_is_asked_for_once(server: RestServer, path: str, asked: str) -> None:
    assert ids(source(server, path)) == list(range(400))
    assert server.asked[2] == asked
    assert len(server.asked) <= 4  # an empty one says that there are no more


def test_pages_may_be_shorter_than_was_asked_for(server: RestServer) -> None:
    """A server may give fewer rows than it is asked for: only an empty page is the end."""
    assert ids(
        source(server, "/by/page?pagination=page&query.page_size=90&page_size_param=n&page_size=1000")
    ) == [*range(400)]


def test_404_behind_the_last_page_is_the_end(server: RestServer) -> None:
    server.faults.extend([server.well, status(404)])
    assert ids(source(server, "/by/page?pagination=page")) == list(range(180))


def test_a_first_page_that_is_not_there_is_an_error(server: RestServer) -> None:
    server.faults.append(status(404))
    with pytest.raises(Permanent, match="404 Not Found"):
        ids(source(server, "/by/page?pagination=page"))


def test_a_server_that_takes_no_notice_of_the_page_is_found_out(server: RestServer) -> None:
    with pytest.raises(Permanent, match=r"gives the same page again.*page_param"):
        ids(source(server, "/all?pagination=page"))


def test_an_answer_with_a_sign_of_more_pages_is_not_taken_for_all(server: RestServer) -> None:
    with pytest.raises(BadConfig, match=r"member next says.*pagination=link&next_path=next"):
        ids(source(server, "/by/next"))
    with pytest.raises(
        BadConfig, match=r"meta.next_cursor says.*pagination=cursor&cursor_path=meta.next_cursor"
    ):
        ids(source(server, "/by/cursor?rows_path=data.items"))
    assert len(ids(source(server, "/by/next?pagination=none"))) == 180


def test_links_to_another_host_are_not_followed(server: RestServer) -> None:
    server.faults.append(saying('[{"id": 1}]', Link='<http://elsewhere.example/x>; rel="next"'))
    with pytest.raises(Permanent, match=r"leads to another host"):
        ids(source(server, "/all"))


# ---------------------------------------------------------------- rows


def values(server: RestServer, document: str, **options: str | int | bool) -> list[object]:
    server.faults.append(saying(document))
    return [record.value for record in read_source(source(server, "/all", **options))]


def test_rows_are_the_bytes_that_the_server_sent(server: RestServer) -> None:
    row = b'{"n": 123456789012345678901234567890.10,  "t": "\\u00e9, [x]"}'
    assert values(server, f'{{"took": 3, "hits": [ {row.decode()} ,{{}}] }}') == [row, b"{}"]
    assert values(server, f" {row.decode()} ", rows_path=".") == [row]
    assert values(server, '{"a": {"b": null}}', rows_path="a.b") == []


def test_where_the_rows_are_must_be_clear(server: RestServer) -> None:
    with pytest.raises(BadConfig, match=r"where are the rows\?, allowed: users, groups; give rows_path="):
        values(server, '{"users": [], "groups": [], "n": 1}')
    with pytest.raises(BadConfig, match=r"got 'data.itms', allowed: items, total; did you mean 'items'"):
        values(server, '{"data": {"items": [], "total": 0}}', rows_path="data.itms")
    with pytest.raises(BadConfig, match=r"holds no array of rows, allowed: error"):
        values(server, '{"error": "s3cret"}')


@pytest.mark.parametrize("text", ['{"a": [1, 2}', '{"a": [1]', "{1: 2}", '{"a"}', "", "7", '{"a": 1}}'])
def test_what_is_no_object(text: str) -> None:
    with pytest.raises(NotJson):
        members(text.encode())


def test_members_and_elements_stand_as_they_are() -> None:
    text = b' {"a\\u0062" : {"x": [1, {"y": ","}]}, "e": {}, "s": "}{,"} '
    assert members(text) == {"ab": b'{"x": [1, {"y": ","}]}', "e": b"{}", "s": b'"}{,"'}
    data, starts, ends = elements(member(text, "ab.x") or b"")
    assert [data[s:e] for s, e in zip(starts, ends, strict=True)] == [b"1", b'{"y": ","}']
    assert member(text, "e.nothing") is None
    assert len(elements(b"[ ]").starts) == 0


# ---------------------------------------------------------------- faults


def test_a_page_is_asked_for_again_after_what_may_pass(server: RestServer) -> None:
    server.faults.extend([status(429, retry_after="0"), status(503, retry_after="0"), garbled])
    assert ids(source(server, "/by/page?pagination=page")) == list(range(400))


def test_a_page_that_stays_garbled_is_an_error_without_its_content(server: RestServer) -> None:
    server.faults.extend([garbled] * 3)
    with pytest.raises(Permanent, match=r"/all: the answer is no JSON, got 'text/html'"):
        ids(source(server, "/all"))


def test_after_a_failure_a_new_reader_goes_on_at_the_bookmark(server: RestServer) -> None:
    split = source(server, "/by/page?pagination=page&page_size=100", retries=0).splits(1)[0]
    reader = split.open(SOURCE, 0, split.bookmark)
    first = reader.read(1 << 20)
    server.faults.append(cut)
    with pytest.raises(Transient, match="cut off"):
        reader.read(1 << 20)
    reader.close()
    assert first is not None
    asked = len(server.asked)
    assert len(read_split(split, first)) == 300
    assert server.asked[asked] == "/by/page?page_size=100&page=2", (
        "pages that are confirmed are not asked for again"
    )


# ---------------------------------------------------------------- options and secrets


def test_the_servers_own_parameters_and_headers(server: RestServer) -> None:
    ids(
        source(server, "/all?tag=a&tag=b&query.scope=x&header.X-Version=2&since=2026-01-01&since_param=after")
    )
    assert server.asked == ["/all?tag=a&tag=b&scope=x&after=2026-01-01"]
    assert server.headers[0]["x-version"] == "2"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("pagnation=page", r"got 'pagnation'; did you mean 'pagination'\? Otherwise write query.pagnation="),
        ("pagination=pages", r"option pagination: .*'page'"),
        ("pagination=cursor", r"cursor_path=meta.next_cursor"),
        ("page_size=0", "option page_size: .*greater than 0"),
        ("client_id=x", "token_url, client_id and client_secret"),
        ("bearer_token=a&api_key=b", "several ways to authenticate"),
    ],
)
def test_options_are_checked_before_anything_is_asked(server: RestServer, query: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        source(server, f"/all?{query}")
    assert not server.asked


def test_a_secret_may_hold_any_character_and_is_nowhere_to_be_seen(
    server: RestServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "key").write_text("k+3y/=&#?%41\n")
    monkeypatch.setenv("API_TOKEN", "t+0ken/=&x=1#?%41")
    found = source(server, "/by/link?bearer_token=${env:API_TOKEN}&page_size=200")
    assert len(read_source(found)) == 400
    assert server.headers[0]["authorization"] == "Bearer t+0ken/=&x=1#?%41"
    keyed = source(server, "/by/link?api_key=${file:" + str(tmp_path / "key") + "}&api_key_param=key")
    assert len(read_source(keyed)) == 400
    assert "key=k%2B3y/%3D%26%23?%2541" in server.asked[-1]
    bookmarks = [c.bookmark for c in read_chunks(keyed.splits(1)[0].open(SOURCE, 0), 0, 1 << 20)]
    seen = f"{found!r}{found.uri}{keyed!r}{keyed.uri}{bookmarks}{caplog.text}"
    assert "0ken" not in seen
    assert "3y" not in seen
    assert "plain text" not in caplog.text


def test_a_secret_in_plain_text_is_taken_with_a_warning(
    server: RestServer, caplog: pytest.LogCaptureFixture
) -> None:
    source(server, "/all?bearer_token=h1dden")
    assert "holds a bearer token in plain text; write ${env:NAME}" in caplog.text
    assert "h1dden" not in caplog.text


def test_secrets_in_headers_and_parameters_of_ones_own_are_not_shown(
    server: RestServer, caplog: pytest.LogCaptureFixture
) -> None:
    query = (
        "header.Authorization=Basic+s3cret&header.X-Api-Key=s3cret&access_token=s3cret&bearer_token=s3cret"
    )
    found = source(server, f"/all?{query}")
    assert "s3cret" not in f"{found!r}{found.uri}{caplog.text}"


def test_another_question_is_another_replay_and_more_rows_are_not(server: RestServer) -> None:
    before = source(server, "/all?since=1").fingerprint()
    server.rows = ROWS[:3]
    assert source(server, "/all?since=1").fingerprint() == before
    assert source(server, "/all?since=2").fingerprint() != before
    assert source(server, "/all?since=1&bearer_token=x").fingerprint() == before
