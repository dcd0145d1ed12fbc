"""The chain of seals: one owner at a time, and what it sealed is finished by the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import PartitionId
from streamcore.errors import Fenced, Permanent
from streamcore.sinks.file_seals import SealChain
from streamcore.sinks.folder_storage import FolderStorage
from streamcore.sinks.storage import Output

PARTITION = PartitionId("orders", 3, "c/1")


class Died(BaseException):
    pass


def chain(folder: Path, owner: str) -> SealChain:
    return SealChain(FolderStorage(folder), "topology", "sink", PARTITION, owner)


def text(content: bytes) -> Callable[[BinaryIO], None]:
    return lambda file: file.write(content) and None


def dies_at(point: str) -> Callable[[str], None]:
    def crash_point(name: str) -> None:
        if name == point:
            raise Died

    return crash_point


def alive(name: str) -> None:
    """A crash point at which nothing happens."""


def visible(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.txt")}


def test_what_was_sealed_is_published_by_the_next_owner_and_what_was_not_is_cleared_away(
    tmp_path: Path,
) -> None:
    first = chain(tmp_path, "first")
    assert first.take_over(0) == 0
    with pytest.raises(Died):
        first.add(
            5,
            1,
            [Output("a=1/x.txt", text(b"one")), Output("y.txt", text(b"two"))],
            dies_at("files.after_seal"),
        )
    assert visible(tmp_path) == {}
    second = chain(tmp_path, "second")
    assert second.take_over(0) == 5
    assert visible(tmp_path) == {"a=1/x.txt": b"one", "y.txt": b"two"}
    with pytest.raises(Died):
        second.add(9, 1, [Output("z.txt", text(b"three"))], dies_at("files.before_seal"))
    assert chain(tmp_path, "third").take_over(0) == 5
    assert visible(tmp_path) == {"a=1/x.txt": b"one", "y.txt": b"two"}
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_a_published_file_that_its_reader_took_away_does_not_come_back(tmp_path: Path) -> None:
    first = chain(tmp_path, "first")
    first.take_over(0)
    first.add(5, 1, [Output("x.txt", text(b"one"))], alive)
    (tmp_path / "x.txt").unlink()
    assert chain(tmp_path, "second").take_over(0) == 5
    assert visible(tmp_path) == {}


def test_an_heir_does_not_clear_away_what_a_later_owner_is_writing(tmp_path: Path) -> None:
    """The take-over of the first heir is slow: the second one has already put a file aside when it cleans."""
    chain(tmp_path, "dead").take_over(0)
    slow, later = chain(tmp_path, "slow"), chain(tmp_path, "later")
    clean = slow._finish_sealed

    def late(mark: object) -> None:
        later.take_over(0)
        with pytest.raises(Died):
            later.add(4, 1, [Output("x.txt", text(b"later"))], dies_at("files.after_seal"))
        clean(mark)  # type: ignore[arg-type]

    slow._finish_sealed = late  # type: ignore[method-assign]
    slow.take_over(0)
    with pytest.raises(Fenced):
        slow.add(2, 1, [Output("z.txt", text(b"slow"))], alive)
    assert chain(tmp_path, "last").take_over(0) == 4
    assert visible(tmp_path) == {"x.txt": b"later"}


@settings(deadline=None)  # a machine may stand still for a moment
@given(
    acts=st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["take", "files.before_seal", "files.after_seal", "", "", ""])
        ),
        max_size=25,
    )
)
def test_however_three_owners_interleave_the_ranges_form_one_chain(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[int, str]]
) -> None:
    """Only the last one that took over adds; the published ranges have no hole and no overlap."""
    folder = tmp_path_factory.mktemp("seals")
    owners: dict[int, SealChain] = {}
    holder, position = None, 0
    for who, act in acts:
        if act == "take" or who not in owners:
            owners[who] = chain(folder, f"owner-{who}")
            assert owners[who].take_over(0) == position
            holder = who
            continue
        owner = owners[who]
        output = [Output(f"{owner.position:03d}-{owner.position + 2:03d}.txt", text(str(who).encode()))]
        try:
            owner.add(owner.position + 2, 1, output, dies_at(act))
        except Died:
            del owners[who]
            assert holder == who or act == "files.before_seal"
            position += 2 if act == "files.after_seal" else 0
        except Fenced:
            assert holder != who
        else:
            assert holder == who
            position += 2
    assert chain(folder, "last").take_over(0) == position
    assert sorted(visible(folder)) == [f"{at:03d}-{at + 2:03d}.txt" for at in range(0, position, 2)]


def test_a_seal_that_an_heir_makes_at_the_last_moment_wins(tmp_path: Path) -> None:
    """After all that a late owner looks at: only link(2) keeps it from sealing."""
    owner = chain(tmp_path, "one")
    owner.take_over(0)

    def heir_comes(point: str) -> None:
        if point == "files.before_seal":
            assert chain(tmp_path, "heir").take_over(0) == 0

    with pytest.raises(Fenced):
        owner.add(4, 1, [Output("x.txt", text(b"late"))], heir_comes)
    assert chain(tmp_path, "last").take_over(0) == 0
    assert visible(tmp_path) == {}


def test_a_foreign_file_among_the_seals_is_named(tmp_path: Path) -> None:
    first = chain(tmp_path, "first")
    first.take_over(0)
    (next((tmp_path / "_seals").glob("*/*")) / "zzz").write_text("hello")
    with pytest.raises(Permanent, match=r"zzz.*not a seal"):
        chain(tmp_path, "second").take_over(0)


def test_output_names_sort_by_position_and_differ_by_sink(tmp_path: Path) -> None:
    one, other = chain(tmp_path, "a"), SealChain(FolderStorage(tmp_path), "topology", "other", PARTITION, "a")
    one.take_over(9), other.take_over(9)
    early = one.output_name(".txt")
    one.add(10, 0, [], alive)
    assert early < one.output_name(".txt")
    assert early != other.output_name(".txt")
