"""``DataValidator``: rules over a frame, or over a source of any size."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from streamcore.engines.datasets import Given, format_of, open_dataset, replayed, silent
from streamcore.engines.folding import Folding
from streamcore.engines.frames import over
from streamcore.progress import OnProgress
from streamcore.quality.rule_counts import SAMPLES, RuleChecks, RuleCounts, first_failing
from streamcore.quality.validation_result import ValidationResult
from streamcore.quality.validation_rule import AnyRule, rules_of
from streamcore.stream import Stream
from streamcore.topology import Topology
from streamcore.validation import Rule
from streamcore.validation.steps import check_rules

STREAM = "rows"


class DataValidator:
    """Checks rules: dictionaries, :class:`ValidationRule` or ``sc.rules``; nothing is changed or refused.

    ::

        validator = DataValidator([{"rule_id": "email_format", "rule_type": "email", "column": "email"}])
        result = validator.validate(frame)
        result = await validator.validate_source("users.csv")
        if not result.valid: ...
    """

    def __init__(
        self,
        rules: Sequence[AnyRule] = (),
        *,
        secret_columns: Sequence[str] = (),
        samples: int = SAMPLES,
        event_time: str | None = None,
    ) -> None:
        """BadConfig for what is no rule. *samples*: so many failing rows are kept of each rule, in which the
        values of *secret_columns* are not shown. *event_time* is a column, for ``unique`` with ``within``."""
        self._rules = rules_of(rules)
        self._secret, self._samples, self._event_time = tuple(secret_columns), samples, event_time

    def validate(self, frame: pl.DataFrame, rules: Sequence[AnyRule] | None = None) -> ValidationResult:
        """The result of the rules over *frame*; *rules* in place of the validator's own.

        BadConfig for an unknown column, or one that a rule can't judge.
        """
        counting = self._counting(frame.schema, rules)
        over(counting.topology("validate", self._event_time), STREAM, frame)
        return counting.result(0)

    async def validate_source(
        self,
        source: Given,
        rules: Sequence[AnyRule] | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        on_progress: OnProgress = silent,
        stop: asyncio.Event | None = None,
    ) -> ValidationResult:
        """The result of the rules over *source*: a path, a URI or a source's dictionary, of any size.

        It is replayed once; memory holds a few chunks, and of ``unique`` what state keeps, which goes to disk
        beyond ``state.memory_mb``. *columns* are types by name, where the first rows are not to tell them.
        Raises as a replay does, BadConfig before any row is read.
        """
        dataset = await asyncio.to_thread(open_dataset, source, columns)
        counting = self._counting(dataset.columns, rules)
        topology = counting.topology("validate", self._event_time)
        summary = await replayed(topology, STREAM, dataset, on_progress=on_progress, stop=stop)
        return counting.result(sum(summary.progress.rejected.values()))

    def _counting(self, columns: pl.Schema, rules: Sequence[AnyRule] | None) -> RuleCounting:
        wanted = self._rules if rules is None else rules_of(rules)
        return RuleCounting(wanted, columns, self._secret, self._samples)


class RuleCounting:
    """Rules over one dataset while it is read: the sinks that count them, and what they have counted."""

    def __init__(
        self, rules: Sequence[Rule], columns: pl.Schema, secret: Sequence[str], samples: int = SAMPLES
    ) -> None:
        """BadConfig without rules, and for rules that don't go with *columns*."""
        check_rules(rules, columns, None, None)
        plain = [rule for rule in rules if rule.rule_type != "unique"]
        self.rules, self.columns = rules, columns
        self._flags = free_name("_fails", columns)
        self._fold = _Fold(RuleChecks.of(plain, columns, secret=secret, samples=samples))
        self._unique = {
            rule.id: _Duplicates(rule.id, self._flags, secret, samples)
            for rule in rules
            if rule.rule_type == "unique"
        }

    @property
    def counts(self) -> RuleCounts:
        """Of all rules but ``unique``."""
        return self._fold.state

    @property
    def unique(self) -> Mapping[str, RuleCounts]:
        """Of the ``unique`` rules, by id."""
        return {id: fold.state for id, fold in self._unique.items()}

    def topology(self, name: str, event_time: str | None) -> Topology:
        """What reads the dataset and counts."""
        topology = Topology(name)
        self.attach(
            topology.stream(
                STREAM, self.columns, event_time=event_time, max_future=None, format=format_of(self.columns)
            )
        )
        return topology

    def attach(self, stream: Stream) -> None:
        """Count the rows of *stream*, which has the dataset's columns."""
        stream.to(Folding("rules", self._fold))
        for number, (id, fold) in enumerate(self._unique.items(), 1):
            rule = next(rule for rule in self.rules if rule.id == id)
            marking = replace(rule, on_fail="flag")
            stream.validate(marking, flag_column=self._flags).to(Folding(f"unique-{number}", fold))

    def result(self, refused: int) -> ValidationResult:
        """What has been counted; *refused* rows could not be read."""
        return ValidationResult.of(self.rules, self.counts, self.unique, refused)


class _Fold:
    def __init__(self, checks: RuleChecks) -> None:
        self._checks = checks
        self.state = RuleCounts(most=checks.most)

    def add(self, partition: int, frame: pl.DataFrame) -> None:
        self.state = self.state.merge(self._checks.count(frame, partition))


class _Duplicates:
    """Counts the rows that a ``unique`` rule has flagged."""

    def __init__(self, id: str, flags: str, secret: Sequence[str], samples: int) -> None:
        self._id, self._flags, self._secret = id, flags, secret
        self.state = RuleCounts(most=samples)

    def add(self, partition: int, frame: pl.DataFrame) -> None:
        failing = (frame[self._flags].list.len() > 0).to_numpy()
        most, rows = self.state.most, frame.drop(self._flags)
        first = first_failing(rows, failing, partition, most, self._secret)
        counted = RuleCounts(
            frame.height, {self._id: int(failing.sum())}, samples={self._id: first}, most=most
        )
        self.state = self.state.merge(counted)


def free_name(wanted: str, columns: pl.Schema) -> str:
    """*wanted*, or that with underscores behind it, which no column has."""
    while wanted in columns:
        wanted += "_"
    return wanted
