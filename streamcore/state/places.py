"""Where the frames of runs lie: in memory, or where a process wants to have large ones."""

from __future__ import annotations

from typing import Protocol

import polars as pl


class Place(Protocol):
    """Says of each frame of a run, when it is made, where it lies from then on.

    What a place does is not seen in the rows: operators stay functions of frames.
    """

    def shared(self, kinds: int) -> Place:
        """The place of each of so many kinds of pieces that share this one."""
        ...

    def trim(self) -> None:
        """Called before a frame is looked into, or some are merged: lets go of memory if it is too much."""
        ...

    def put(self, frame: pl.DataFrame, size: int) -> pl.DataFrame:
        """*frame*, or the same rows and columns from elsewhere; its run has about *size* bytes.

        Permanent when they can't be written. The result lives as long as it is referred to.
        """
        ...


class Memory:
    """Every frame stays where it is."""

    def shared(self, kinds: int) -> Memory:
        """See :class:`Place`."""
        return self

    def trim(self) -> None:
        """See :class:`Place`."""

    def put(self, frame: pl.DataFrame, size: int) -> pl.DataFrame:
        """See :class:`Place`."""
        return frame


MEMORY = Memory()
