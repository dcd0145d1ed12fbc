"""Rows that a table can't hold, found in columns before they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import polars as pl

from streamcore.batch import Rejects


class Checked(Protocol):
    """A column of the stream on its way into one of a table."""

    def checks(self) -> Iterator[tuple[str, str, pl.Expr]]:
        """Code, message and condition of the rows that the system would refuse, or change without a word."""
        ...


class ColumnChecks:
    """All checks of a table's columns, and *more* of the same form, made once; most batches pass them."""

    def __init__(
        self,
        pairs: Iterable[Checked],
        key: Sequence[str],
        more: Iterable[tuple[str, str, pl.Expr]] = (),
    ) -> None:
        found = [*(check for pair in pairs for check in pair.checks()), *more]
        found += [
            ("null_key", f"{name} is null, it is part of the key", pl.col(name).is_null()) for name in key
        ]
        self._codes: Mapping[str, tuple[str, str]] = {
            f"{at}": (code, message) for at, (code, message, _) in enumerate(found)
        }
        self._bad = [bad.fill_null(False).alias(f"{at}") for at, (_, _, bad) in enumerate(found)]

    def refused(self, frame: pl.DataFrame, stage: str) -> tuple[pl.DataFrame, Rejects]:
        """The rows that pass, and the others with the first check that they fail."""
        if not self._bad or not frame.height:
            return frame, Rejects()
        marks = frame.select(self._bad)
        if not any(marks.select(pl.all().any()).row(0)):
            return frame, Rejects()
        bad = marks.select(pl.any_horizontal(pl.all())).to_series()
        first = pl.coalesce(
            pl.when(pl.col(at)).then(pl.struct(pl.lit(code).alias("code"), pl.lit(message).alias("message")))
            for at, (code, message) in self._codes.items()
        )
        why = marks.filter(bad).select(first.alias("why")).unnest("why")
        rows = frame.filter(bad).with_columns(why["code"].alias(" code"), why["message"].alias(" message"))
        return frame.filter(~bad), Rejects.of(rows, stage, pl.col(" code"), pl.col(" message"))
