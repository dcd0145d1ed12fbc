"""A file that one handle has at a time, on this machine; the end of its process lets it go."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class InUse(Exception):
    """Another handle, of the process ``pid`` (or "unknown"), has the file."""

    def __init__(self, pid: str) -> None:
        super().__init__(f"in use by process {pid}")
        self.pid = pid


def locked(path: Path) -> int:
    """A handle of the file at *path*, made if need be, that nobody else has until it is closed.

    It holds this process's id, for people. InUse when another handle has it, also one of this process;
    OSError when it can't be opened or locked.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise InUse(pid) from None
    except OSError:
        os.close(handle)
        raise
    return handle
