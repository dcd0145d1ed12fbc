"""New files: when one is read, what is remembered of it, and what becomes of it. The clock is passed in."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from streamcore.contracts.unbounded import Polled, UnboundedReader
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.sources.catalogue import open_unbounded
from streamcore.sources.folder import Place
from streamcore.testing.unbounded import ids_of, polled, reading


def put(folder: Path, name: str, *ids: int) -> Path:
    """A file of JSON lines with these ids."""
    file = folder / name
    file.write_text("".join(f'{{"id": {i}, "name": "x"}}\n' for i in ids))
    return file


def opened(folder: Path, options: str = "settle=0s", bookmark: bytes = b"") -> UnboundedReader:
    return open_unbounded(f"{folder}/*.jsonl?{options}").open(bookmark)


def ids(found: list[Polled]) -> list[int]:
    return [id for one in found for id, _ in ids_of(one)]


def test_a_file_is_read_when_it_has_stayed_as_it_is_for_long_enough(tmp_path: Path) -> None:
    reader = opened(tmp_path, "settle=2s")
    put(tmp_path, "a.jsonl", 1)
    assert reader.poll(1000, now=10.0) is None
    put(tmp_path, "a.jsonl", 1, 2)
    assert reader.poll(1000, now=11.9) is None
    assert reader.poll(1000, now=13.8) is None
    found = reader.poll(1000, now=13.9)
    assert found is not None
    assert [id for id, _ in ids_of(found)] == [1, 2]


def test_a_file_that_was_changed_is_another_file(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", 1)
    reader = opened(tmp_path)
    assert ids(polled(reader, 1)) == [1]
    put(tmp_path, "a.jsonl", 1, 2)
    assert ids(polled(reader, 2)) == [1, 2]


def test_only_files_that_are_still_there_are_remembered(tmp_path: Path) -> None:
    files = [put(tmp_path, f"{i}.jsonl", i) for i in range(5)]
    reader = opened(tmp_path)
    polled(reader, 5)
    for file in files[:4]:
        file.unlink()
    put(tmp_path, "new.jsonl", 7)
    assert len(Place.unpack(polled(reader, 1)[-1].bookmark).done) == 2


def test_a_folder_that_is_gone_for_a_moment_is_not_read_again(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "unmounted"
    folder.mkdir()
    put(folder, "a.jsonl", 1)
    reader = opened(folder)
    polled(reader, 1)
    folder.rename(elsewhere)
    assert reader.poll(1000, 1.0) is None
    elsewhere.rename(folder)
    put(folder, "b.jsonl", 2)
    assert ids(polled(reader, 1)) == [2]


def in_part(folder: Path) -> tuple[Path, bytes]:
    """A file, and the bookmark in its middle."""
    file = put(folder, "a.jsonl", *range(1000))
    with reading(open_unbounded(f"{folder}/*.jsonl?settle=0s")) as reader:
        first = reader.poll(2000, 0.0)
        assert first is not None
        assert 0 < len(ids_of(first)) < 1000
    return file, first.bookmark


def test_a_file_that_changed_while_it_was_read_ends_the_feeding(tmp_path: Path) -> None:
    _, bookmark = in_part(tmp_path)
    put(tmp_path, "a.jsonl", 5)
    with pytest.raises(Permanent, match=r"a\.jsonl.*unfinished=skip"):
        opened(tmp_path, bookmark=bookmark).poll(1000, 0.0)


def test_or_its_rest_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, bookmark = in_part(tmp_path)
    file.unlink()
    put(tmp_path, "b.jsonl", 2000)
    with caplog.at_level(logging.WARNING):
        found = polled(opened(tmp_path, "settle=0s&unfinished=skip", bookmark), 1)
    assert ids(found) == [2000]
    assert "a.jsonl" in caplog.text


def test_as_long_as_nothing_can_be_seen_it_may_come_back(tmp_path: Path) -> None:
    file, bookmark = in_part(tmp_path)
    file.unlink()
    with pytest.raises(Transient):
        opened(tmp_path, bookmark=bookmark).poll(1000, 0.0)


def test_a_file_is_deleted_when_its_rows_are_durable_and_not_before(tmp_path: Path) -> None:
    file = put(tmp_path, "a.jsonl", *range(1000))
    reader = opened(tmp_path, "settle=0s&done=delete")
    found = polled(reader, 1000, 2000)
    for one in found[:-1]:
        reader.forget(one.bookmark)
        assert file.exists()
    reader.forget(found[-1].bookmark)
    assert not file.exists()


def test_what_a_crash_left_undeleted_is_deleted_behind_it(tmp_path: Path) -> None:
    file = put(tmp_path, "a.jsonl", 1)
    last = polled(opened(tmp_path, "settle=0s&done=delete"), 1)[-1]
    other = put(tmp_path, "b.jsonl", 2)
    reader = opened(tmp_path, "settle=0s&done=delete", last.bookmark)
    reader.forget(last.bookmark)
    assert [file.exists(), other.exists()] == [False, True]
    assert ids(polled(reader, 1)) == [2]


def test_files_that_are_moved_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder, read = tmp_path / "in", tmp_path / "read"
    folder.mkdir()
    read.mkdir()
    reader = opened(folder, f"settle=0s&done={read}")
    for i in range(3):
        put(folder, "same.jsonl", i)
        for one in polled(reader, 1):
            reader.forget(one.bookmark)
    assert len(list(read.iterdir())) == 3
    assert not list(folder.iterdir())


def test_a_file_without_rows_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl")
    put(tmp_path, "b.jsonl", 1)
    assert ids(polled(opened(tmp_path), 1)) == [1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("done=remove", "no such folder"),
        ("unfinished=maybe", "stop, skip"),
        ("every=often", "no duration"),
        ("delimter=;", "no such option"),
    ],
)
def test_mistakes_are_found_before_a_row_is_read(tmp_path: Path, options: str, says: str) -> None:
    put(tmp_path, "a.jsonl", 1)
    with pytest.raises(BadConfig, match=says):
        opened(tmp_path, options)


def test_a_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="no such folder"):
        opened(tmp_path / "nowhere" / "at all")
