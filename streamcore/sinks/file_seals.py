"""Seals: the log of what a file sink has written for one partition, and its fence.

A seal is a small file that is made once and never changed::

    <folder>/_seals/<stream>/<partition>/<START, 20 digits>-<turn, 6 digits>

It holds JSON: ``end``, ``rows``, ``outputs`` (paths below the folder), ``owner`` and the partition.
The seals of a partition are a chain: the next one's START is the last one's ``end``. Whoever writes
``[START, end)`` first writes its outputs aside, beside the seal under hidden names, fsyncs them, and
then creates the seal by link(2), which fails when the name exists: **the seal is both the commit
and the fence**. Only then the outputs are renamed to their places. After a crash between the two
the next owner finds hidden files that a seal names, and renames them: nothing is read again.

Taking a partition over adds an empty seal ``[tip, tip)`` and so takes away the one name under which
the former owner could have added its next seal; ``turn`` counts these. Hidden files that no seal
names are litter of a dead owner and are removed.

This is rule 8 of the reliability rules with one difference: since a file system can rename, what is
sealed is finished by whoever comes next instead of being written a second time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import polars as pl

from streamcore.batch import PartitionId
from streamcore.errors import Fenced, Permanent

SEALS = "_seals"


class Seal(NamedTuple):
    """One link of the chain; ``outputs`` are paths below the sink's folder."""

    start: int
    turn: int
    end: int
    rows: int
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.start:020d}-{self.turn:06d}"

    @property
    def next_turn(self) -> int:
        """An owner's ranges all have one turn, which starts with its taking over."""
        return self.turn + 1 if self.end == self.start else self.turn

    def aside(self, number: int) -> str:
        """The hidden name under which output *number* waits for the seal."""
        return f".{self.name}.{number}"


class SealChain:
    """The seals of one partition as one owner sees them. Blocking; call from a worker thread.

    ``position`` is where the next range starts. Raises Fenced when another owner was faster and
    Permanent, with the path, for whatever the file system refuses.
    """

    def __init__(self, folder: Path, topology: str, sink: str, partition: PartitionId, owner: str) -> None:
        identity = "\0".join((topology, sink, partition.topic_id, partition.topic))
        self.stream = hashlib.sha256(identity.encode()).hexdigest()[:12]
        self._folder, self._partition, self._owner = folder, partition, owner
        self._seals = folder / SEALS / self.stream / f"{partition.partition:05d}"
        self._turn = 0
        self._durable = {folder}
        """Folders whose names are durable: of *folder* that is seen to in :meth:`take_over`."""
        self.position = 0

    def take_over(self, start: int) -> int:
        """Fence every former owner, finish what it sealed, return where to go on (at first: *start*)."""
        make_folder(self._seals, self._folder)
        while True:
            last = self._last()
            self.position, self._turn = (last.end, last.next_turn) if last else (start, 0)
            with suppress(Fenced):  # somebody else is taking it over as well: the last one wins
                mark = Seal(self.position, self._turn, self.position, 0, ())
                self._link(mark)
                break
        self._turn = mark.next_turn
        self._finish_sealed(mark)
        return self.position

    def output_name(self, suffix: str) -> str:
        """The name of the next range's files: unique for good, and in the order of positions."""
        return f"{self.stream}-{self._partition.partition:05d}-{self.position:020d}{suffix}"

    def add(
        self,
        end: int,
        rows: int,
        outputs: Sequence[tuple[str, Callable[[BinaryIO], None]]],
        crash_point: Callable[[str], None],
    ) -> None:
        """Write, seal and publish ``[position, end)``; an output is a path and what writes to its file."""
        seal = Seal(self.position, self._turn, end, rows, tuple(path for path, _ in outputs))
        if (self._seals / seal.name).exists():  # the link below decides; this saves the writing
            raise self._fenced(seal)
        for number, (_, write) in enumerate(outputs):
            self._write_aside(seal.aside(number), write)
        fsync(self._seals)
        crash_point("files.before_seal")
        self._link(seal)
        crash_point("files.after_seal")
        self._publish(seal)
        crash_point("files.after_outputs")
        self.position = end

    def _write_aside(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        path = self._seals / name
        try:
            with translated(path), open(path, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        except Permanent:  # a full disk: give the room back
            path.unlink(missing_ok=True)
            raise

    def _link(self, seal: Seal) -> None:
        text = {"end": seal.end, "rows": seal.rows, "outputs": seal.outputs, "owner": self._owner}
        text |= self._partition._asdict()
        aside = self._seals / f".{seal.name}.seal.{hashlib.sha256(self._owner.encode()).hexdigest()[:12]}"

        def write(file: BinaryIO) -> None:
            file.write(json.dumps(text).encode())

        self._write_aside(aside.name, write)
        with translated(aside):
            try:
                os.link(aside, self._seals / seal.name)
            except FileExistsError:
                raise self._fenced(seal) from None
            finally:
                aside.unlink(missing_ok=True)
        fsync(self._seals)

    def _fenced(self, seal: Seal) -> Fenced:
        return Fenced(
            f"another owner has taken {self._partition} over at position {seal.start}",
            where=str(self._seals / seal.name),
            fix="this process must stop writing it",
        )

    def _publish(self, seal: Seal) -> None:
        """Move the outputs of a seal to their places; done already is done."""
        folders = set()
        for number, path in enumerate(seal.outputs):
            target = self._folder / path
            if target.parent not in self._durable:
                make_folder(target.parent, self._folder)
                self._durable.add(target.parent)
            with translated(target), suppress(FileNotFoundError):
                os.rename(self._seals / seal.aside(number), target)
                folders.add(target.parent)
        for folder in folders:
            fsync(folder)

    def _names(self) -> list[str]:
        with translated(self._seals):
            return sorted(name for name in os.listdir(self._seals) if not name.startswith("."))

    def _last(self) -> Seal | None:
        names = self._names()
        return self._read(names[-1]) if names else None

    def _read(self, name: str) -> Seal:
        path = self._seals / name
        with translated(path):
            text = path.read_text(encoding="utf-8")
        try:
            start, turn = name.split("-")
            seal = json.loads(text)
            return Seal(int(start), int(turn), int(seal["end"]), int(seal["rows"]), tuple(seal["outputs"]))
        except (ValueError, KeyError, TypeError):
            raise Permanent(
                "this file is not a seal that streamcore wrote",
                where=str(path),
                fix="restore it, or move it away if it does not belong here",
            ) from None

    def _finish_sealed(self, mark: Seal) -> None:
        """Publish what a former owner sealed but did not publish, and remove what it never sealed.

        Only names before *mark* and the outputs that lost against it are touched: what comes later
        belongs to an owner that may already have taken over from this one.
        """
        sealed = set(self._names())
        with translated(self._seals):
            hidden = sorted(name for name in os.listdir(self._seals) if name.startswith("."))
        for name in hidden:
            _, seal, number, *_ = name.split(".")
            if seal < mark.name and seal in sealed:
                self._publish(self._read(seal))
            if seal < mark.name or (seal == mark.name and number != "seal"):
                with translated(self._seals):
                    (self._seals / name).unlink(missing_ok=True)


class translated:  # noqa: N801 - reads as a statement
    """``with translated(path):`` turns the file system's errors into Permanent with *path* and a remedy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, pl.exceptions.PolarsError)):  # polars wraps what a write gave
            raise permanent(self._path, error) from error


def permanent(path: Path, error: Exception) -> Permanent:
    """*error* of the file system as Permanent; no content, only the path and the system's words."""
    text = getattr(error, "strerror", None) or str(error).splitlines()[0]
    full = "space" in text or "quota" in text
    fix = "make room and start again" if full else "check the disk, the path and its rights"
    return Permanent(f"cannot write: {text}", where=str(path), fix=fix)


def make_folder(path: Path, top: Path) -> None:
    """Make *path*, *top*, and what is missing above it, durably: each name is fsynced where it stands.

    From *top* on also names that are there: a process that was killed may have left them to the kernel.
    """
    if path != top:
        make_folder(path.parent, top)
    elif not path.parent.exists():
        make_folder(path.parent, path.parent)
    with translated(path):
        path.mkdir(exist_ok=True)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Make a file or a folder durable. An error is never ignored: the kernel may have dropped the pages."""
    with translated(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
