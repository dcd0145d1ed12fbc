"""What a file sink asks of the place where its files are: a folder, or a bucket of an object store.

Everything here blocks and is called from worker threads, for one partition one call at a time. Paths are
relative, with "/" between names. Errors are Transient (the same call may be tried again) or Permanent with
the place and a remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple, Protocol

SEALS = "_seals"
"""Below this name is what readers leave alone: seals, and outputs that wait for theirs."""


class Output(NamedTuple):
    """A file to write: its ``path`` and what writes its content, the same in each call, to an open file."""

    path: str
    write: Callable[[BinaryIO], None]


class Staged(NamedTuple):
    """An output that readers can't see yet. ``receipt`` begins with a word that tells it from all others."""

    path: str
    receipt: str

    @property
    def word(self) -> str:
        """The receipt's first."""
        return self.receipt.partition(" ")[0]


class Waiting(NamedTuple):
    """What somebody staged, or began to, for the seal of that name; ``word`` is its receipt's first.

    ``place`` is for the shelf. ``is_output``: not the beginning of a seal itself.
    """

    seal: str
    word: str
    place: str = ""
    is_output: bool = True


class Shelf(Protocol):
    """The seals of one partition, and the outputs that wait for theirs, as one owner sees them."""

    def make(self) -> None:
        """Called once, first."""
        ...

    def last(self, near: int) -> str | None:
        """The name of the last seal, which begins probably at or a little before the position *near*."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is a seal of that name now."""
        ...

    def read(self, name: str) -> bytes:
        """What a seal holds."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Make a seal, durable on return, unless there is one of that name: in one step, which one wins.

        False when somebody else's is there, whose content differs. After Transient it may be made or not;
        the same call says then that it is.
        """
        ...

    def stage(self, name: str, outputs: Sequence[Output]) -> list[Staged]:
        """Write outputs for the seal *name*, durable on return, where readers do not see them.

        After an error they are gone, or left for :meth:`waiting`.
        """
        ...

    def publish(self, staged: Sequence[Staged]) -> None:
        """Show them under their paths, durable on return, all at once or one by one; done already is done.

        Permanent when one is neither waiting nor there.
        """
        ...

    def waiting(self) -> Sequence[Waiting]:
        """All that waits for seals of this partition, also that of owners before."""
        ...

    def discard(self, waiting: Waiting) -> None:
        """Take it away; gone already is gone."""
        ...


class Storage(Protocol):
    """A folder or a bucket's prefix."""

    @property
    def longest(self) -> int:
        """Bytes that the longest path in it may have."""
        ...

    @property
    def shown(self) -> str:
        """For people, without secrets."""
        ...

    def reach(self) -> None:
        """Try that it can be written to, as far as that shows without writing. Raises as prepare."""
        ...

    def prepare(self, owner: str) -> None:
        """Make it ready, and try what seals stand on. Permanent with the remedy where that does not hold."""
        ...

    def shelf(self, stream: str, partition: int, owner: str) -> Shelf:
        """That of a partition; *stream* is a name that no other sink or stream of this storage has."""
        ...

    def at(self, path: str) -> str:
        """Where *path* is, for people."""
        ...
