"""Objects read by ranges, and what patterns of keys mean; no server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_adapters import s3_files
from batch_adapters.catalogue import open_source
from batch_adapters.s3_files import RangedFile, pattern_of
from streamcore.errors import BadConfig
from streamcore.systems.s3_address import address

CONTENT = bytes(i * 7 % 251 for i in range(5000))


class Ranges:
    """An object in memory that notes the ranges which are asked for."""

    size = len(CONTENT)

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def begin(self, start: int, end: int) -> Callable[[], bytes]:
        assert 0 <= start < end <= self.size, "a server refuses such a range"
        self.asked.append((start, end))
        return lambda: CONTENT[start:end]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_files, "BLOCK", 300)
    monkeypatch.setattr(s3_files, "_FIRST", 64)


@given(
    steps=st.lists(st.tuples(st.none() | st.integers(0, 5000), st.integers(0, 700))),
    begin=st.integers(0, 5000),
    end=st.none() | st.integers(0, 5000),
)
def test_any_seeks_and_reads_give_the_bytes_that_are_there(
    steps: list[tuple[int | None, int]], begin: int, end: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_files, "BLOCK", 300)
        patch.setattr(s3_files, "_FIRST", 64)
        file, at = RangedFile(Ranges(), begin, end), begin  # type: ignore[arg-type]
        for place, size in steps:
            if place is not None:
                at = file.seek(place)
            assert file.read(size) == CONTENT[at : at + size]
            at = min(at + size, max(at, len(CONTENT)))
            assert file.tell() == at


def test_in_order_each_byte_is_fetched_once_and_one_block_ahead() -> None:
    ranges = Ranges()
    file = RangedFile(ranges, 1000, 3000)  # type: ignore[arg-type]
    read = b""
    while len(read) < 2000:
        read += file.read(50)
        assert ranges.asked[-1][1] <= 1000 + len(read) + 2 * 300
    assert read == CONTENT[1000:3000]
    assert ranges.asked[0][0] == 1000
    assert ranges.asked[-1][1] == 3000, "nothing behind the end is fetched"
    assert [end for _, end in ranges.asked[:-1]] == [start for start, _ in ranges.asked[1:]]


def test_elsewhere_what_is_asked_for_is_fetched() -> None:
    ranges = Ranges()
    file = RangedFile(ranges, 0, None)  # type: ignore[arg-type]
    for place in (4000, 1000, 3000, 0):
        file.seek(place)
        file.read(100)
    assert ranges.asked == [(4000, 4100), (1000, 1100), (3000, 3100), (0, 100)]


def test_nothing_is_fetched_ahead_where_places_come_in_no_order() -> None:
    ranges = Ranges()
    file = RangedFile(ranges, 0, None, in_order=False)  # type: ignore[arg-type]
    for place in (0, 100, 200, 1000, 1100, 300):
        file.seek(place)
        file.read(100)
    assert ranges.asked == [(place, place + 100) for place in (0, 100, 200, 1000, 1100, 300)]


@pytest.mark.parametrize(
    ("pattern", "keys", "others"),
    [
        ("a/*.csv", ["a/x.csv", "a/.csv"], ["a/b/x.csv", "b/x.csv", "a/x.csv.gz", "a/xacsv"]),
        ("a/**/*.csv", ["a/x.csv", "a/b/x.csv", "a/b/c/x.csv"], ["ab/x.csv", "a/x.json"]),
        ("a/**", ["a/x", "a/b/c"], ["b/x"]),
        ("a/?.csv", ["a/x.csv"], ["a/xy.csv", "a//.csv"]),
        ("day-[0-3]/[!a]*", ["day-1/b"], ["day-4/b", "day-1/a"]),
        ("a+(b)/*", ["a+(b)/x"], ["aab/x"]),
    ],
)
def test_patterns_of_keys(pattern: str, keys: list[str], others: list[str]) -> None:
    wanted = pattern_of(pattern)
    assert [key for key in [*keys, *others] if wanted.fullmatch(key)] == keys


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3:///x.csv", "not an S3 URI"),
        ("s3://b/x.csv?access_key=a", "belong together"),
        ("s3://b/x.csv?tls_verify=maybe", "allowed: true, false"),
        ("s3://b/x.csv?secret_key=$", "belong together"),
    ],
)
def test_a_wrong_address_is_said_before_anything_is_asked(uri: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        open_source(uri)


def test_an_address_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    where = address("s3://b/a?access_key=k&secret_key=hunter2+/")
    assert "hunter2" not in f"{where!r} {where.shown} {caplog.text}"
    assert "secret_key is in plain text" in caplog.text


def test_a_reference_is_resolved_late(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    where = address("s3://b/a?access_key=k&secret_key=${env:S3_KEY}&endpoint=minio.example.com:9000")
    assert dict(where.options)["secret_key"] == "${env:S3_KEY}"
    assert dict(where.options)["endpoint"] == "https://minio.example.com:9000"
    assert not caplog.text
