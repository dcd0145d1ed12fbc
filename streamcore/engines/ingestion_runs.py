"""Which run an ingestion is at, in a small file beside its log: one that was broken off is taken up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from streamcore.errors import BadConfig, Transient
from streamcore.locked_file import InUse, locked

_REMEMBERED = 1000
"""So many finished runs with names are known as such."""


class Runs:
    """The runs of one ingestion, and the ``current`` one: *wanted*, or the last that was not finished.

    One call at a time has them: see :meth:`open`.
    """

    def __init__(self, folder: Path, wanted: str | None) -> None:
        self._file = folder / "ingestions.json"
        there = orjson.loads(self._file.read_bytes()) if self._file.exists() else {}
        self._number: int = there.get("number", 1)
        self._finished: list[str] = there.get("finished", [])
        self._parts: dict[str, int] = there.get("parts", {})
        if wanted is None and str(self._number) in self._finished:
            self._finished.remove(str(self._number))
            self._number += 1
            self._write()
        self.current = str(self._number) if wanted is None else f"run {wanted}"

    @classmethod
    @contextmanager
    def open(cls, folder: Path, wanted: str | None) -> Iterator[Runs]:
        """The runs in *folder*, which nobody else has until they are left; a process that ends leaves them.

        So from what is read here to what is published and removed, it is one call's. Transient when another
        call has them, BadConfig when *folder* can't be used.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = locked(folder / "ingestions.lock")
        except InUse as used:
            fix = "call again when that one has ended"
            raise Transient(
                f"another call of this ingestion is at work, in process {used.pid}",
                where=str(folder),
                fix=fix,
            ) from None
        except OSError as error:
            raise BadConfig(f"the folder can't be used: {error.strerror}", where=str(folder)) from error
        try:
            yield cls(folder, wanted)
        finally:
            os.close(lock)

    @property
    def finished(self) -> bool:
        """Whether the current run was finished."""
        return self.current in self._finished

    def parts(self, wanted: int) -> int:
        """In how many parts the current run reads: *wanted*, durably, or as many as when it began.

        Cut otherwise it would be another replay, whose rows come once more.
        """
        if self.current not in self._parts:
            self._parts[self.current] = wanted
            self._write()
        return self._parts[self.current]

    def finish(self) -> None:
        """Remember that the current run is finished, durably."""
        self._parts.pop(self.current, None)
        finished = [run for run in self._finished if run != self.current] + [self.current]
        names = [run for run in finished if run.startswith("run ")][-_REMEMBERED:]
        # The last one without a name stays: forgotten, it would be taken up instead of followed by a new one.
        self._finished = [*(run for run in finished if not run.startswith("run ")), *names]
        self._write()

    def _write(self) -> None:
        aside = self._file.with_suffix(".tmp")
        with aside.open("wb") as file:
            state = {"number": self._number, "finished": self._finished, "parts": self._parts}
            file.write(orjson.dumps(state))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._file)
