"""What a branch of a simulated topology is: a part that is declared, and what must come out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

import streamcore as sc
from streamcore.stream import Stream
from tests.simulation import oracle
from tests.simulation.oracle import Document, Judged, Row

Streams = Mapping[str, Stream]


class RowEvent(sc.Event):
    id: str
    key: str
    shop: str | None
    at: int | None
    n: int = Field(ge=0)


class OtherEvent(sc.Event):
    oid: str
    key: str
    oat: int | None
    m: int = Field(ge=0)


@dataclass(frozen=True)
class Wanted:
    """What a sink must hold: ``rows`` that are added, or (``key``) those of a table as they are at last."""

    rows: list[Document]
    key: tuple[str, ...] = ()
    by_position: bool = False
    """The rows are those of a source, one a record: where each stands is known."""
    changes: str = ""
    """What comes out are changes of a table, of which ``rows`` are left: its "updates" by the first column of
    ``key``, or what was put there and "taken back"."""

    def of(self, found: list[Document]) -> list[Document]:
        """What is to be compared with ``rows``, of what was *found*."""
        if self.changes == "updates":
            return oracle.last_changes(self.key[0], found)
        return oracle.added_up(found) if self.changes else found


@dataclass
class Branch:
    """A part of a topology. *declare* gives the stream that its sinks get; *wanted* what they must hold."""

    name: str
    declare: Callable[[Mapping[str, Stream]], Stream]
    wanted: Callable[[Judged], Wanted]
    joins: bool = False
    timed: bool = False
    key: tuple[str, ...] = ()
    """That of a table; what comes out updates it."""
    sinks: list[str] = field(default_factory=list)


def rows_of(judged: Judged) -> list[Row]:
    """The rows of the stream that all branches read."""
    return judged.of("rows")


def sums(rows: Sequence[Document]) -> Document:
    """The aggregates that most branches ask for."""
    return {"counted": len(rows), "total": sum(row["n"] for row in rows)}
