"""Which run an ingestion is at, in a small file beside its log: one that was broken off is taken up."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

_REMEMBERED = 1000
"""So many finished runs with names are known as such."""


class Runs:
    """The runs of one ingestion, and the ``current`` one: *wanted*, or the last that was not finished.

    One process at a time; what else would write the same is refused by the log's lock.
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

    @property
    def finished(self) -> bool:
        """Whether the current run was finished."""
        return self.current in self._finished

    def finished_by_another(self) -> bool:
        """Whether another call has finished the current run since this one began."""
        there = orjson.loads(self._file.read_bytes())
        followed = self.current == str(self._number) and there["number"] > self._number
        return followed or self.current in there["finished"]

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
        self._file.parent.mkdir(parents=True, exist_ok=True)
        aside = self._file.with_suffix(".tmp")
        with aside.open("wb") as file:
            state = {"number": self._number, "finished": self._finished, "parts": self._parts}
            file.write(orjson.dumps(state))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._file)
