"""What a power loss leaves of files and folders: a model of what POSIX allows, narrowed by a journal.

- Of a file, in each sector what it held at its last fsync or at any time since, and one of the sizes that
  it had since (what lies between is zeros).
- Of a folder, its changes since its last fsync up to some place in their order; a rename is wholly there
  or not.
- All that was fsynced: a file's content by its own fsync, its name by that of its folder.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_SECTORS = [8, 512, 4096]
"""Bytes that are written whole or not at all."""


@dataclass(eq=False)
class File:
    """``since``: what it held after each write since the last fsync, as far as that was seen."""

    durable: bytes = b""
    since: list[bytes] = field(default_factory=list)

    def note(self, content: bytes) -> None:
        """It holds *content* now."""
        if content != (self.since[-1] if self.since else self.durable):
            self.since.append(content)

    def synced(self, content: bytes) -> None:
        """It holds *content* for good."""
        self.durable, self.since = content, []

    def lose(self, dice: random.Random) -> None:
        """The power fails."""
        states = [self.durable, *self.since]
        if len(states) == 1:
            return
        if dice.random() < 0.5:  # all or nothing of what was written since, in each sector
            states = [states[0], states[-1]]
        size, sector = len(dice.choice([states[-1], dice.choice(states)])), dice.choice(_SECTORS)
        states = [state.ljust(size, b"\0") for state in states]
        self.synced(
            b"".join(dice.choice(states)[at : min(at + sector, size)] for at in range(0, size, sector))
        )


@dataclass(eq=False)
class Folder:
    """``names`` as processes see them, ``durable`` as they are on disk for good."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)


Change = list[tuple[Folder, str, File | Folder | None]]
"""Names that change together: what each means then."""


class Tree:
    """Files and folders below one, and what of their changes is not durable yet."""

    def __init__(self, dice: random.Random) -> None:
        self.top = Folder()
        self._dice = dice
        self._changes: list[Change] = []

    def change(self, change: Change) -> None:
        """Names were made, moved or removed."""
        for folder, name, node in change:
            _set(folder.names, name, node)
        self._changes.append(change)

    def sync(self, folder: Folder) -> None:
        """*folder* was fsynced."""
        for change in [change for change in self._changes if any(one is folder for one, _, _ in change)]:
            self._settle(change)

    def _settle(self, change: Change) -> None:
        """Make *change* durable, behind those before it that touch the same names."""
        if change not in self._changes:
            return
        places = _places(change)
        for before in self._changes[: self._changes.index(change)]:
            if places & _places(before):
                self._settle(before)
        _apply(change)
        self._changes.remove(change)

    def lose(self) -> None:
        """The power fails: what is left is durable."""
        share, cut = self._dice.choice([0.0, 0.5, 0.9, 1.0]), set[Folder]()
        one_journal = self._dice.random() < 0.5
        for change in self._changes:
            touched = {self.top} if one_journal else {folder for folder, _, _ in change}
            if cut & touched or self._dice.random() >= share:
                cut |= touched
            else:
                _apply(change)
        self._changes.clear()
        self._leave(self.top)

    def _leave(self, folder: Folder) -> None:
        folder.names = dict(folder.durable)
        for _, node in sorted(folder.names.items()):
            if isinstance(node, Folder):
                self._leave(node)
            else:
                node.lose(self._dice)

    def look(self, path: Path, content: Callable[[Path], bytes], folder: Folder | None = None) -> None:
        """Note what all files hold; *content* reads one, *path* is the top's."""
        for name, node in (folder or self.top).names.items():
            if isinstance(node, Folder):
                self.look(path / name, content, node)
            else:
                node.note(content(path / name))


def _places(change: Change) -> set[tuple[Folder, str]]:
    return {(folder, name) for folder, name, _ in change}


def _apply(change: Change) -> None:
    for folder, name, node in change:
        _set(folder.durable, name, node)


def _set(names: dict[str, File | Folder], name: str, node: File | Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node
