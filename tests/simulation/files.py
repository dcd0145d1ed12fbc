"""Calls on files, as simulated processes make them: real ones, noted, and cut off where a process dies.

Calls on paths below one folder are done on real files and told to :mod:`.disk`. A process can be killed
before any of them. That loses nothing, the kernel has what was written; a power loss does.
"""

from __future__ import annotations

import builtins
import io
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.simulation.disk import File, Folder, Tree
from tests.simulation.loop import PROCESS, Killed

_Place = tuple[Folder, str]
_CALLS = ("open", "close", "pwrite", "ftruncate", "fsync", "mkdir", "rename", "link", "unlink", "rmdir")
_REAL: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in _CALLS}
_open_real = builtins.open


class Files:
    """All below *root*."""

    def __init__(self, root: Path, dice: random.Random, told: Callable[[str], None]) -> None:
        """*told* is called with the name of each process that makes a call."""
        self.root, self._tree, self._told = root, Tree(dice), told
        self._open: dict[int, File | Folder] = {}
        self._objects: dict[int, File] = {}
        """What is open as a file object; some may be closed by now."""
        self.dies_in: int | None = None
        """The process dies at this call from now."""

    def restart(self, *, power: bool) -> None:
        """All processes are dead. With *power* lost, only what a power loss leaves is there."""
        for fd in self._open:
            _REAL["close"](fd)
        self._open.clear()
        self._objects.clear()
        self.dies_in = None
        if power:
            self._tree.look(self.root, lambda path: path.read_bytes())
            self._tree.lose()
            shutil.rmtree(self.root)
            _write(self._tree.top, self.root)

    @contextmanager
    def played(self) -> Iterator[None]:
        """While open, calls go through here."""
        calls: dict[str, Callable[..., Any]] = {
            "open": self._open_fd,
            "close": self._close,
            "pwrite": self._pwrite,
            "ftruncate": self._ftruncate,
            "fsync": self._fsync,
            "mkdir": self._mkdir,
            "rename": self._rename,
            "replace": self._rename,
            "link": self._link,
            "unlink": self._unlink,
            "rmdir": self._rmdir,
        }
        with ExitStack() as stack:
            for name, call in calls.items():
                stack.enter_context(mock.patch.object(os, name, call))
            stack.enter_context(mock.patch.object(builtins, "open", self._open_object))
            stack.enter_context(mock.patch.object(io, "open", self._open_object))
            yield

    # ------------------------------------------------------------ places

    def _step(self) -> None:
        """Before each call that changes something. The code of a dead process does nothing any more."""
        process = PROCESS.get()
        assert process is not None
        if self.dies_in is not None and not process.dead:
            self.dies_in -= 1
            if self.dies_in <= 0:
                process.kill()
        if process.dead:
            raise Killed
        self._told(process.name)

    def _place(self, path: Any, dir_fd: int | None = None) -> _Place | None:
        """The folder that holds *path*, and the name there; None outside of *root* and of processes."""
        if isinstance(path, int) or PROCESS.get() is None:
            return None
        whole = Path(os.fsdecode(path))
        if dir_fd is not None:
            whole = Path(os.readlink(f"/proc/self/fd/{dir_fd}")) / whole
        try:
            parts = whole.relative_to(self.root).parts
        except ValueError:
            return None
        folder: File | Folder | None = self._tree.top
        for part in parts[:-1]:
            folder = folder.names.get(part) if isinstance(folder, Folder) else None
        return (folder, parts[-1]) if parts and isinstance(folder, Folder) else None

    def _node(self, path: Any, dir_fd: int | None = None) -> File | Folder | None:
        if not isinstance(path, int) and Path(os.fsdecode(path)) == self.root:
            return self._tree.top
        place = self._place(path, dir_fd)
        return None if place is None else place[0].names.get(place[1])

    def _made(self, place: _Place, node: File | Folder) -> None:
        if place[1] not in place[0].names:
            self._tree.change([(*place, node)])

    def _look_at(self, place: _Place, path: Any, dir_fd: int | None = None) -> None:
        """Note what the file at *place* holds: its name may be about to go."""
        node = place[0].names.get(place[1])
        if isinstance(node, File) and dir_fd is None:
            node.note(Path(path).read_bytes())

    # ------------------------------------------------------------ calls

    def _open_fd(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self._place(path, dir_fd)
        if place is not None and flags & os.O_CREAT:
            self._step()
        fd: int = _REAL["open"](path, flags, mode, dir_fd=dir_fd)
        if place is not None and flags & os.O_CREAT:
            self._made(place, File())
        self._objects.pop(fd, None)
        if (node := self._node(path, dir_fd)) is not None and PROCESS.get() is not None:
            self._open[fd] = node
        return fd

    def _open_object(self, path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        place = self._place(path) if set(mode) & set("wxa+") else None
        if place is None:
            return _open_real(path, mode, *rest, **named)
        self._step()
        file = _open_real(path, mode, *rest, **named)
        self._made(place, File())
        node = place[0].names[place[1]]
        assert isinstance(node, File)
        node.note(b"")
        self._objects[file.fileno()] = node
        return file

    def _close(self, fd: int) -> None:
        process = PROCESS.get()
        if process is not None and process.dead:
            return  # its files are closed when another one starts
        self._open.pop(fd, None)
        _REAL["close"](fd)

    def _pwrite(self, fd: int, data: Any, at: int) -> int:
        if fd in self._open:
            self._step()
        done: int = _REAL["pwrite"](fd, data, at)
        self._written(fd)
        return done

    def _ftruncate(self, fd: int, size: int) -> None:
        if fd in self._open:
            self._step()
        _REAL["ftruncate"](fd, size)
        self._written(fd)

    def _written(self, fd: int) -> None:
        node = self._open.get(fd)
        if isinstance(node, File):
            node.note(_content(fd))

    def _fsync(self, fd: int) -> None:
        node = self._open.get(fd) or self._objects.get(fd)
        if node is None:
            return
        self._step()
        if isinstance(node, File):
            node.synced(_content(fd))
        else:
            self._tree.sync(node)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        place = self._place(path, dir_fd)
        if place is not None:
            self._step()
        _REAL["mkdir"](path, mode, dir_fd=dir_fd)
        if place is not None:
            self._made(place, Folder())

    def _rename(self, source: Any, target: Any) -> None:
        before, after = self._place(source), self._place(target)
        if before is not None and after is not None:
            self._step()
            self._look_at(before, source)
            self._look_at(after, target)
        _REAL["rename"](source, target)
        if before is not None and after is not None:
            self._tree.change([(*after, before[0].names[before[1]]), (*before, None)])

    def _link(self, source: Any, target: Any) -> None:
        after, node = self._place(target), self._node(source)
        if after is not None:
            self._step()
        _REAL["link"](source, target)
        if after is not None and node is not None:
            self._tree.change([(*after, node)])

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("unlink", path, dir_fd)

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("rmdir", path, dir_fd)

    def _remove(self, call: str, path: Any, dir_fd: int | None) -> None:
        place = self._place(path, dir_fd)
        if place is not None:
            self._step()
            self._look_at(place, path, dir_fd) if place[1] in place[0].names else None
        _REAL[call](path, dir_fd=dir_fd)
        if place is not None:
            self._tree.change([(*place, None)])


def _content(fd: int) -> bytes:
    """What the file *fd* holds, however it was opened."""
    with _open_real(f"/proc/self/fd/{fd}", "rb") as file:
        return file.read()


def _write(folder: Folder, path: Path) -> None:
    path.mkdir()
    for name, node in folder.names.items():
        if isinstance(node, Folder):
            _write(node, path / name)
        else:
            (path / name).write_bytes(node.durable)
