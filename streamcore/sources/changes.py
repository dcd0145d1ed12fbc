"""What sources that read a database's log of changes share: options, and rows in runs of one kind."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from streamcore.durations import DurationText
from streamcore.errors import BadConfig

OPS = ("insert", "update", "delete")


class ChangeOptions(BaseModel):
    """Options of all logs of changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ops: str = Field("insert,update,delete", description="What to tell of; without delete for streams.")
    every: DurationText = Field("200ms", description="How often to look when nothing new was there.")

    @field_validator("ops")
    @classmethod
    def _known_ops(cls, text: str) -> str:
        return words(text, "ops", OPS)

    @property
    def told(self) -> tuple[str, ...]:
        """``ops``, one by one."""
        return tuple(self.ops.split(","))


def words(text: str, option: str, known: Collection[str]) -> str:
    """*text*, words of *known* with commas between them; BadConfig when one is another."""
    for word in text.split(","):
        if word not in known:
            raise BadConfig(f"option {option}", got=word, allowed=known)
    return text


def runs(kinds: npt.NDArray[np.generic]) -> Iterator[tuple[int, int]]:
    """Where runs of equal *kinds*, shape (changes,), begin and end: the order of changes is kept by them."""
    cuts = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(kinds)]
    for start, end in itertools.pairwise(cuts):
        if start < end:
            yield start, end
