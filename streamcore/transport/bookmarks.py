"""Where the splits of a replay can be opened again, in a file beside the embedded log.

A file source needs none: its positions are places. A table's rows have no place, so its reader says behind
each chunk how to go on (``contracts.Split.bookmark``), and that is durable before the chunk is handed out:
whatever position the sinks confirm, its bookmark is known. One line of JSON a chunk, appended and synced.
"""

from __future__ import annotations

import base64
import os
import threading
from pathlib import Path

import orjson

from streamcore.errors import Permanent
from streamcore.transport.embedded_segments import sync_directory


class Bookmarks:
    """The bookmarks of one replay in *path*, which is made when there is the first one. For any thread."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._known: dict[tuple[int, int], bytes] = {}
        self._ends: dict[int, int] = {}
        if path.exists():
            self._load()

    def at(self, split: int, position: int) -> bytes:
        """The bookmark of *split* at *position*. Permanent when it is not known."""
        found = self._known.get((split, position))
        if found is None:
            raise Permanent(
                "the replay can't go on: it is not known where in the source this position is",
                where=str(self._path),
                got=f"split {split}, position {position}",
                fix="--again replays all rows once more",
            )
        return found

    def first(self, split: int, bookmark: bytes) -> None:
        """*split* begins at *bookmark*, unless the replay began at another one before."""
        if (split, 0) not in self._known:
            self.add(split, 0, bookmark)

    def add(self, split: int, position: int, bookmark: bytes) -> None:
        """Durable on return."""
        self._append([split, position, base64.b64encode(bookmark).decode()])

    def end(self, split: int) -> int | None:
        """Where *split* ended, None when it did not."""
        return self._ends.get(split)

    def ended(self, split: int, position: int) -> None:
        """*split* ends at *position* for good, whatever its source holds later. Durable on return."""
        self._append([split, position, None])

    def _append(self, entry: list[object]) -> None:
        with self._lock:
            fresh = not self._path.exists()
            with open(self._path, "ab") as file:
                file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
                file.flush()
                os.fsync(file.fileno())
            if fresh:
                sync_directory(self._path.parent)
            self._remember(entry)

    def _load(self) -> None:
        """Read the file up to where a crash has torn it, and cut it there."""
        whole = 0
        with open(self._path, "r+b") as file:
            for line in file:
                try:
                    entry = orjson.loads(line) if line.endswith(b"\n") else None
                except orjson.JSONDecodeError:
                    entry = None
                if not isinstance(entry, list):
                    break
                self._remember(entry)
                whole += len(line)
            file.truncate(whole)

    def _remember(self, entry: list[object]) -> None:
        split, position, bookmark = entry
        assert isinstance(split, int)
        assert isinstance(position, int)
        if isinstance(bookmark, str):
            self._known[split, position] = base64.b64decode(bookmark)
        else:
            self._ends[split] = position
