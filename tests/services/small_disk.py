"""A small file system for the tests that fill one: tmpfs, whose size can be changed while it is used."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.services.server import Unavailable

_TRIES = 10


class SmallDisk:
    """*megabytes* at *path*, from ``with`` to its end. Raises :class:`Unavailable` where nobody may mount.

    Nothing is written to fill it: it is made as large as what is in it.
    """

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path, self._bytes = path, megabytes << 20

    def fill(self) -> None:
        """Leave no room. What is deleted meanwhile makes room again, so call it again and again."""
        for _ in range(_TRIES):
            found = os.statvfs(self.path)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            if not (refused := _mount("-o", f"remount,size={max(used, found.f_frsize)}", self.path)):
                return  # otherwise what is in it has grown meanwhile
        raise RuntimeError(refused)

    def free(self) -> None:
        """Make room again."""
        assert not _mount("-o", f"remount,size={self._bytes}", self.path)

    def __enter__(self) -> SmallDisk:
        self.path.mkdir(parents=True, exist_ok=True)
        if refused := _mount("-t", "tmpfs", "-o", f"size={self._bytes},mode=755", "tmpfs", self.path):
            raise Unavailable(f"no file system of its own: {refused}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)


def _mount(*words: str | Path) -> str:
    """Empty, or why it was refused."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    return done.stderr.strip() or "refused" if done.returncode else ""


@functools.cache
def can_mount() -> bool:
    """Whether this machine lets us have a small file system."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with SmallDisk(Path(folder) / "disk", 1):
                return True
        except Unavailable:
            return False
