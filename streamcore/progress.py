"""What a running job tells its watcher: a snapshot about five times a second, and a summary at the end.

The runtime builds these records, the command line shows them; neither knows the other. Nothing here
holds a row's content or a secret. All counters only grow while a job runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

Status: TypeAlias = Literal["finished", "already finished", "interrupted"]


class Rejected(NamedTuple):
    """Why rows were refused: ``stage`` ("read", "decode", a node, a sink), the dead letter's ``code``."""

    stage: str
    code: str


@dataclass(frozen=True, slots=True)
class SplitProgress:
    """How far one source partition is, in the source's own unit (bytes, rows, offsets).

    ``size`` is None where the end is not known (a live topic).
    """

    stream: str
    split: str
    position: int
    size: int | None

    @property
    def fraction(self) -> float | None:
        """Share that is done, 0 to 1; None when the size is unknown, 1 for an empty split."""
        if self.size is None:
            return None
        return min(1.0, self.position / self.size) if self.size else 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Counters of a job since its start (of this run, not of earlier ones that it resumes).

    ``rows_in`` counts records read, ``bytes_in`` what they took in memory or on the wire;
    ``rows_out`` maps a sink's name to the rows it confirmed; ``rejected`` maps :class:`Rejected` to
    the rows that became dead letters there; ``rules`` maps a validation rule to the rows that broke it,
    whatever then happened to them; ``late`` maps a window to the rows that came too late for it;
    ``elapsed`` is in seconds; ``rows_left`` is what other workers still
    have to do of it, while they are waited for.
    """

    rows_in: int = 0
    bytes_in: int = 0
    rows_out: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[Rejected, int] = field(default_factory=dict)
    rules: Mapping[str, int] = field(default_factory=dict)
    late: Mapping[str, int] = field(default_factory=dict)
    splits: tuple[SplitProgress, ...] = ()
    elapsed: float = 0.0
    rows_left: int | None = None

    @property
    def dead_letters(self) -> int:
        """Rows refused at any stage."""
        return sum(self.rejected.values())

    @property
    def rate(self) -> float:
        """Rows read a second, over the whole run so far."""
        return self.rows_in / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def fraction(self) -> float | None:
        """Share of all splits that is done, each weighing the same (units differ), or None."""
        known = [f for s in self.splits if (f := s.fraction) is not None]
        return sum(known) / len(known) if known and len(known) == len(self.splits) else None


@dataclass(frozen=True, slots=True)
class Summary:
    """How a job ended.

    ``outputs`` maps a sink's name to where its rows are (a path, table or topic; no credentials);
    ``dead_letter_log`` is the dead-letter topic, or None when the topology has none;
    ``group`` names the stored positions that a further run goes on from.
    """

    topology: str
    status: Status
    progress: Progress
    outputs: Mapping[str, str] = field(default_factory=dict)
    dead_letter_log: str | None = None
    group: str = ""


OnProgress: TypeAlias = Callable[[Progress], None]
"""Called from the job's event loop about five times a second and once at the end; must return at once."""
