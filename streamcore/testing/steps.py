"""Conformance suite of steps: one named test for each sentence of ``contracts.Step``.

A step's test module subclasses it and says what goes in::

    class TestUpper(StepConformance):
        columns = pl.Schema({"name": pl.String})

        def step(self) -> Step:
            return Upper("name")

        def frame(self, count: int) -> pl.DataFrame: ...
"""

from __future__ import annotations

import numpy as np
import polars as pl

from streamcore.batch import HIDDEN, HIDDEN_TYPES, OFFSET, SUB, hide
from streamcore.contracts import Step, StepResult

__all__ = ["StepConformance"]

ROWS = 60
STAGE = "conformance/step"


class StepConformance:
    """Subclass with ``columns``, :meth:`step` and :meth:`frame`; let the frame hold awkward rows."""

    columns: pl.Schema
    """The user columns before the step."""

    def step(self) -> Step:
        """A new description of the step; two calls give equal ones."""
        raise NotImplementedError

    def frame(self, count: int) -> pl.DataFrame:
        """*count* rows of ``columns``, among them nulls and rows that the step refuses, if it can."""
        raise NotImplementedError

    def applied(self, frame: pl.DataFrame, first: int = 0) -> StepResult:
        """The step's result for *frame*, whose records stand at *first* and the positions after it."""
        offsets = np.arange(first, first + frame.height, dtype=np.int64)
        return self.step().apply(hide(frame, offsets), STAGE)

    # ------------------------------------------------------------ the laws

    def test_it_has_a_name(self) -> None:
        assert self.step().name
        assert self.step().name == self.step().name

    def test_the_result_has_the_declared_columns_and_keeps_the_hidden_ones(self) -> None:
        for count in (0, 1, ROWS):
            frame = self.applied(self.frame(count)).frame
            user = pl.Schema({n: t for n, t in frame.schema.items() if n not in HIDDEN})
            assert user == self.step().output(self.columns)
            assert {n: frame.schema[n] for n in HIDDEN} == dict(HIDDEN_TYPES)

    def test_rows_stay_in_the_order_of_their_records(self) -> None:
        frame = self.applied(self.frame(ROWS)).frame
        assert frame.select(OFFSET, SUB).equals(frame.select(OFFSET, SUB).sort(OFFSET, SUB))

    def test_a_record_is_refused_or_passed_on_never_both(self) -> None:
        result = self.applied(self.frame(ROWS))
        refused = set(result.rejects.frame.select(OFFSET, SUB).iter_rows())
        assert len(refused) == len(result.rejects)
        assert not refused & set(result.frame.select(OFFSET, SUB).iter_rows())
        assert set(result.rejects.frame["stage"]) <= {STAGE}

    def test_rejects_say_why_without_the_rows_content(self) -> None:
        result = self.applied(self.frame(ROWS))
        for code, message in result.rejects.frame.select("code", "message").iter_rows():
            assert code
            assert message
            assert "\n" not in message

    def test_the_same_rows_give_the_same_result(self) -> None:
        first, second = self.applied(self.frame(ROWS)), self.applied(self.frame(ROWS))
        assert first.frame.equals(second.frame)
        assert first.rejects.frame.equals(second.rejects.frame)
        assert first.counts == second.counts

    def test_cutting_the_rows_changes_nothing(self) -> None:
        whole = self.applied(self.frame(ROWS))
        for cut in (0, 1, ROWS // 3, ROWS):
            frame = self.frame(ROWS)
            parts = [self.applied(frame[:cut]), self.applied(frame[cut:], cut)]
            assert pl.concat([p.frame for p in parts]).equals(whole.frame)
            rejects = pl.concat([p.rejects.frame for p in parts]).sort(OFFSET, SUB)
            assert rejects.equals(whole.rejects.frame.sort(OFFSET, SUB))
            counts = {name: sum(p.counts.get(name, 0) for p in parts) for name in whole.counts}
            assert counts == dict(whole.counts)

    def test_the_rows_that_came_in_are_left_as_they_were(self) -> None:
        frame = hide(self.frame(ROWS), np.arange(ROWS, dtype=np.int64))
        before = frame.clone()
        self.step().apply(frame, STAGE)
        assert frame.equals(before)
