"""How the columns of two schemas differ."""

from __future__ import annotations

from typing import Literal, NamedTuple

import polars as pl

from streamcore.schema.cast import widens
from streamcore.schema.types import name_of

Verdict = Literal["missing", "new", "wider", "other type"]


class Difference(NamedTuple):
    """A column that is not the same: its types before and after by name; None where it is not there.

    ``verdict``: missing behind, new there, of a type that holds all values of the one before, or another.
    """

    column: str
    before: str | None
    after: str | None
    verdict: Verdict


def differences(before: pl.Schema, after: pl.Schema) -> list[Difference]:
    """The columns that differ, in the order of *before*, then the new ones; their order does not count."""
    found = [_of(name, before, after) for name in before if before[name] != after.get(name)]
    return found + [
        Difference(name, None, name_of(after[name]), "new") for name in after if name not in before
    ]


def _of(name: str, before: pl.Schema, after: pl.Schema) -> Difference:
    was, dtype = before[name], after.get(name)
    if dtype is None:
        return Difference(name, name_of(was), None, "missing")
    return Difference(name, name_of(was), name_of(dtype), "wider" if widens(was, dtype) else "other type")
