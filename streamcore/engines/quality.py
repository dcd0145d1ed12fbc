"""``QualityEngine``: one look at a dataset, in one pass: rules, metrics, profile, drift."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from streamcore.contracts import BoundedSource
from streamcore.engines.datasets import Dataset, Given, format_of, open_dataset, replayed, silent
from streamcore.engines.folding import Folding
from streamcore.engines.frames import over
from streamcore.engines.validator import STREAM, RuleCounting
from streamcore.errors import BadConfig
from streamcore.expressions import check_columns
from streamcore.progress import OnProgress
from streamcore.quality.config import QualityConfig, quality_config
from streamcore.quality.metrics import metrics_of
from streamcore.quality.profile import Profile, profile_of
from streamcore.quality.profile_state import ProfileState
from streamcore.quality.report import QualityReport, RunRecord, report_of
from streamcore.quality.rule_counts import RuleCounts
from streamcore.quality.store import QualityStore
from streamcore.quality.timeliness import Ages, Aging
from streamcore.topology import Topology
from streamcore.validation import Rule

HISTORY = 30
"""Earlier looks that a report shows."""


class QualityEngine:
    """Looks at datasets, and keeps what it found in a store if it has one.

    ::

        with QualityHistory() as history:
            engine = QualityEngine(history)
            report = await engine.run("data/flights.parquet", {"rules": [...], "thresholds": [...]})
        if report.level == "fail": ...
    """

    def __init__(self, store: QualityStore | None = None) -> None:
        self._store = store

    async def run(
        self,
        source: Given | None = None,
        config: QualityConfig | Mapping[str, Any] | None = None,
        *,
        baseline: Profile | None = None,
        as_of: dt.datetime | None = None,
        run_id: str | None = None,
        on_progress: OnProgress = silent,
        stop: asyncio.Event | None = None,
    ) -> QualityReport:
        """Read *source* (that of *config* if None) once, in bounded memory, and report.

        Drift is measured from *baseline*, or the store's. *as_of* is the time by which rows are timely; now
        if None. With a *run_id* that the store has already, nothing is kept again. BadConfig before any row
        is read; else as a replay raises.
        """
        wanted = _config(config)
        where = wanted.source if source is None else source
        if where is None:
            raise BadConfig("which dataset?", fix="give a source, or write source: in the configuration")
        dataset = await asyncio.to_thread(open_dataset, where, wanted.columns)
        look = Look(wanted, name_of(wanted, dataset.source), dataset.columns, as_of)
        refused = await look.read(dataset, on_progress, stop)
        return await asyncio.to_thread(self._finished, look, refused, baseline, run_id)

    def check(
        self,
        frame: pl.DataFrame,
        config: QualityConfig | Mapping[str, Any] | None = None,
        *,
        baseline: Profile | None = None,
        as_of: dt.datetime | None = None,
    ) -> QualityReport:
        """The same of a frame, called as *config* says, or "frame"."""
        wanted = _config(config)
        look = Look(wanted, wanted.dataset or "frame", frame.schema, as_of)
        look.take(frame)
        return self._finished(look, 0, baseline)

    def _finished(
        self, look: Look, refused: int, baseline: Profile | None, run_id: str | None = None
    ) -> QualityReport:
        store, name = self._store, look.name
        if store is None:
            return look.report(refused, baseline, ())
        report = look.report(refused, baseline or store.baseline(name), store.history(name, HISTORY))
        store.append(report.record(run_id))
        return report


class Look:
    """One pass over a dataset called *name*: what is counted while it is read, and the report of it."""

    def __init__(
        self, config: QualityConfig, name: str, columns: pl.Schema, as_of: dt.datetime | None = None
    ) -> None:
        """BadConfig for rules, a time or secret columns that don't go with *columns*."""
        self.name, self._config = name, config
        self._as_of = as_of or dt.datetime.now(dt.timezone.utc)
        if self._as_of.tzinfo is None:
            self._as_of = self._as_of.replace(tzinfo=dt.timezone.utc)
        check_columns(list(config.secret_columns), columns, "in secret_columns")
        self.rules: list[Rule] = [rule.rule() for rule in config.rules]
        self._counting = (
            RuleCounting(self.rules, columns, config.secret_columns, config.samples) if self.rules else None
        )
        self._fold = _Fold(columns, config.secret_columns, self._aging(columns))
        self._topology = Topology("quality")
        stream = self._topology.stream(
            STREAM, columns, event_time=config.event_time, max_future=None, format=format_of(columns)
        )
        stream.to(Folding("profile", self._fold))
        if self._counting:
            self._counting.attach(stream)

    def _aging(self, columns: pl.Schema) -> Aging | None:
        timeliness = self._config.timeliness
        if timeliness is None:
            return None
        aging = Aging(timeliness.column, timeliness.max_age, self._as_of)
        aging.check(columns)
        return aging

    async def read(self, dataset: Dataset, on_progress: OnProgress, stop: asyncio.Event | None) -> int:
        """Read *dataset* to its end; returns how many rows were refused."""
        summary = await replayed(self._topology, STREAM, dataset, on_progress=on_progress, stop=stop)
        return sum(summary.progress.rejected.values())

    def take(self, frame: pl.DataFrame) -> None:
        """Read *frame*."""
        over(self._topology, STREAM, frame)

    def profile(self, refused: int) -> Profile:
        """The profile of what was read."""
        return profile_of(self._fold.state, self.name, self._as_of, refused)

    def report(self, refused: int, baseline: Profile | None, history: Sequence[RunRecord]) -> QualityReport:
        """The report of what was read."""
        validation, counts = None, RuleCounts()
        unique: Mapping[str, RuleCounts] = {}
        if self._counting:
            validation = self._counting.result(refused)
            counts, unique = self._counting.counts, self._counting.unique
        metrics = metrics_of(self._fold.state, self.rules, counts, unique, self._fold.ages, refused)
        return report_of(self._config, self.profile(refused), metrics, validation, baseline, history)


class _Fold:
    def __init__(self, columns: pl.Schema, secret: Sequence[str], aging: Aging | None) -> None:
        self._secret, self._aging = frozenset(secret), aging
        self.state = ProfileState.empty(columns, self._secret)
        self.ages = Ages()

    def add(self, partition: int, frame: pl.DataFrame) -> None:
        self.state = self.state.merge(ProfileState.of(frame, partition, self._secret))
        if self._aging:
            self.ages = self.ages.merge(self._aging.of(frame))


def name_of(config: QualityConfig, source: BoundedSource) -> str:
    """The dataset's name: as *config* says, or made of the last part of the source's address."""
    if config.dataset is not None:
        return config.dataset
    last = source.uri.partition("?")[0].rstrip("/*").rsplit("/", 1)[-1]
    stem = last.partition(".")[0] or last
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "dataset"


def _config(config: QualityConfig | Mapping[str, Any] | None) -> QualityConfig:
    return config if isinstance(config, QualityConfig) else quality_config(config or {})
