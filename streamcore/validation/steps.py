"""The step that applies rules to batches.

Every rule sees every row, and counts the rows that fail it under ``rule:<id>:failed``. A row that
fails several has one fate, the most careful one: stop, dead letter, drop, flag. So the order of the
rules decides nothing but which of them gives a dead letter its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PolarsError

from streamcore.batch import HIDDEN, OFFSET, SUB, Rejects
from streamcore.contracts import StepResult
from streamcore.errors import BadConfig, Permanent
from streamcore.validation.rules import DUPLICATE, ON_FAIL, Failing, OnFail, Rule

Mask = npt.NDArray[np.bool_]
FLAGS = pl.List(pl.String)


@dataclass(frozen=True, slots=True)
class Check:
    """A rule, what becomes of rows that fail it, and which do."""

    rule: Rule
    action: OnFail
    failing: Failing


Failed: TypeAlias = list[tuple[Check, Mask]]
"""The rules that some row fails, in their order, and the rows that fail each."""


@dataclass(frozen=True)
class Validate:
    """Apply *checks*; with *flag_column* each row gets the ids of the flagging rules that it fails."""

    checks: tuple[Check, ...]
    flag_column: str | None = None

    @classmethod
    def of(
        cls,
        rules: Sequence[Rule],
        columns: pl.Schema,
        on_fail: str | None = None,
        flag_column: str | None = None,
    ) -> Validate:
        """Compile *rules* over *columns*; *on_fail* is for rules that have none of their own.

        BadConfig without rules, for two of one id, and for what :meth:`Rule.compile` refuses.
        """
        default = check_rules(rules, columns, on_fail, flag_column)
        checks = [Check(r, r.action(default), r.compile(columns)) for r in rules]
        return cls(tuple(checks), flag_column)

    @property
    def name(self) -> str:
        return "validate " + ", ".join(check.rule.id for check in self.checks)

    def output(self, columns: pl.Schema) -> pl.Schema:
        """The same columns, and the flag column."""
        return columns if self.flag_column is None else pl.Schema({**columns, self.flag_column: FLAGS})

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """See :class:`streamcore.contracts.Step`. Permanent for a row that fails a rule which says "stop"."""
        failed = self.failed(frame)
        counts = {f"rule:{check.rule.id}:failed": int(mask.sum()) for check, mask in failed}
        if not failed:
            return StepResult(self._flagged(frame, failed), counts=counts)
        self._stop(frame, failed)
        dead = _any(failed, "dead-letter", frame.height)
        gone = dead | _any(failed, "drop", frame.height)
        rejects = _rejects(frame, failed, np.flatnonzero(dead), stage)
        frame = self._flagged(frame, failed)
        return StepResult(frame.filter(pl.Series(~gone)) if gone.any() else frame, rejects, counts)

    def failed(self, frame: pl.DataFrame) -> Failed:
        """The rules that some row of *frame* fails, and which rows those are, shape (rows,)."""
        return [(c, mask) for c in self.checks if (mask := _mask(c.failing, frame)).any()]

    def _stop(self, frame: pl.DataFrame, failed: Failed) -> None:
        stopping = [(int(mask.argmax()), check.rule.id) for check, mask in failed if check.action == "stop"]
        if not stopping:
            return
        place, id = min(stopping)
        row = frame[place]
        raise Permanent(
            f"a row fails rule {id!r} with on_fail='stop'",
            where=f"position {row[OFFSET].item()}, row {row[SUB].item()}",
            fix="correct the source or the rule, then start again",
        )

    def _flagged(self, frame: pl.DataFrame, failed: Failed) -> pl.DataFrame:
        if self.flag_column is None:
            return frame
        flagging = [(c.rule.id, mask) for c, mask in failed if c.action == "flag"]
        ids = [pl.when(pl.Series(mask)).then(pl.lit(id)) for id, mask in flagging]
        flags = pl.concat_list(ids).list.drop_nulls() if ids else pl.lit([], FLAGS)
        if self.flag_column in frame.columns:
            flags = pl.col(self.flag_column).list.concat(flags)
        hidden = [name for name in HIDDEN if name in frame.columns]
        return frame.select(pl.exclude(*hidden, self.flag_column), flags.alias(self.flag_column), *hidden)


@dataclass(frozen=True)
class Duplicates(Validate):
    """What a ``unique`` rule makes of the rows that its state has marked; the mark leaves.

    Its flags are added to a flag column that is there already.
    """

    @classmethod
    def of_rule(
        cls, rule: Rule, columns: pl.Schema, on_fail: OnFail | None, flag_column: str | None
    ) -> Duplicates:
        """The step of *rule* over the *columns* that its state gives."""
        return cls((Check(rule, rule.action(on_fail), rule.compile(columns)),), flag_column)

    def output(self, columns: pl.Schema) -> pl.Schema:
        """*columns* without the mark, and with the flag column."""
        kept = pl.Schema({name: dtype for name, dtype in columns.items() if name != DUPLICATE})
        return super().output(kept)

    def apply(self, frame: pl.DataFrame, stage: str) -> StepResult:
        """See :class:`Validate`."""
        result = super().apply(frame, stage)
        return StepResult(result.frame.drop(DUPLICATE), result.rejects, result.counts)


def check_rules(
    rules: Sequence[Rule], columns: pl.Schema, on_fail: str | None, flag_column: str | None
) -> OnFail | None:
    """*on_fail*; BadConfig unless *rules* go together and with the other arguments of ``validate``."""
    if not rules:
        raise BadConfig("validate needs at least one rule", fix="e.g. sc.rules.not_null('id')")
    if on_fail is not None and on_fail not in ON_FAIL:
        raise BadConfig("unknown on_fail", got=on_fail, allowed=ON_FAIL)
    ids = [rule.id for rule in rules]
    for id in ids:
        if ids.count(id) > 1:
            raise BadConfig("two rules have one id", got=id, fix="give them rule_id=")
    if flag_column is not None and (flag_column in columns or flag_column in HIDDEN):
        raise BadConfig("flag_column is there already", got=flag_column, fix="choose a new name")
    return cast("OnFail | None", on_fail)


def _mask(failing: Failing, frame: pl.DataFrame) -> Mask:
    """Rows that fail; a row that the rule can't be computed for (a failing cast) fails."""
    try:
        found = failing(frame)
    except PolarsError:
        if frame.height <= 1:
            return np.ones(frame.height, bool)
        half = frame.height // 2
        return np.concatenate([_mask(failing, frame[:half]), _mask(failing, frame[half:])])
    return found.fill_null(False).to_numpy() if found.has_nulls() else found.to_numpy()


def _any(failed: Failed, action: OnFail, height: int) -> Mask:
    found = np.zeros(height, bool)
    for check, mask in failed:
        if check.action == action:
            found |= mask
    return found


def _rejects(frame: pl.DataFrame, failed: Failed, rows: npt.NDArray[np.intp], stage: str) -> Rejects:
    """One dead letter a row: the code of the first rule that it fails, the messages of all."""
    if not len(rows):
        return Rejects()
    dead = [(c.rule, mask) for c, mask in failed if c.action == "dead-letter"]
    broken = [[rule for rule, mask in dead if mask[row]] for row in rows.tolist()]
    codes = pl.Series([rules[0].code for rules in broken], dtype=pl.String)
    messages = pl.Series(["; ".join(r.message for r in rules) for rules in broken], dtype=pl.String)
    return Rejects.of(frame.select(OFFSET, SUB)[rows], stage, pl.lit(codes), pl.lit(messages))
