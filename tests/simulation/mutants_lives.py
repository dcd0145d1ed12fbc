"""Planted mistakes of tables whose keys live for a while, and of standbys: see :mod:`.mutants`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import polars as pl

from streamcore.state.log_record import Entry
from streamcore.state.operator import Runs
from streamcore.state.runs import Hashes
from streamcore.state.sessions import FOREVER, SessionTable
from streamcore.stateful_task import StatefulTask
from streamcore.tables.expiring import LivingTable


def lives_end_by_the_last_partition() -> Iterator[Any]:
    """At the end of a bounded stream time stands where it stood in the partition that ended last."""

    def at_once(
        self: StatefulTask, rows: Sequence[pl.DataFrame]
    ) -> Sequence[tuple[Sequence[pl.DataFrame], int]]:
        return [(rows, self._lowest())]

    yield mock.patch.object(StatefulTask, "_steps", at_once)


def what_is_over_stays() -> Iterator[Any]:
    """Only keys for which rows come are looked at: what time has passed is never deleted."""

    def came(self: SessionTable, runs: Runs, pieces: pl.DataFrame, before: int, after: int) -> Hashes:
        hashes: Hashes = pieces["_hash"].to_numpy()
        return hashes

    yield mock.patch.object(SessionTable, "_touched", came)


def lives_of_a_key_are_one() -> Iterator[Any]:
    """A row that comes more than the time to live after all others goes on with what they came to."""
    yield mock.patch.object(LivingTable, "gap", FOREVER)


def standby_reads_heads_only() -> Iterator[Any]:
    """A standby knows how far it has read, and leaves out what that came to."""

    def heads(self: StatefulTask, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._new(entry)

    yield mock.patch.object(StatefulTask, "follow", heads)


MISTAKES = (
    lives_end_by_the_last_partition,
    what_is_over_stays,
    lives_of_a_key_are_one,
    standby_reads_heads_only,
)
