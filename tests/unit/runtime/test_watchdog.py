"""The watchdog judges by progress, on a manual clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from streamcore.batch import PartitionId
from streamcore.errors import Permanent
from streamcore.observability.metrics import Metrics
from streamcore.runtime.ledger import Ledger
from streamcore.runtime.recovery import Recovery
from streamcore.runtime.watchdog import Watchdog

P, Q = PartitionId("t", 0, "id"), PartitionId("t", 1, "id")


@dataclass
class Runner:
    busy_since: float | None = None
    last_error: str | None = None


@dataclass
class FakeGraph:
    name: str = "topology"


@dataclass
class FakeKept:
    recovery: Recovery


@dataclass
class FakePipeline:
    ledger: Ledger
    processed: dict[PartitionId, int]
    runners: dict[str, Runner] = field(default_factory=dict)
    graph: FakeGraph = field(default_factory=FakeGraph)
    kept: dict[PartitionId, FakeKept] = field(default_factory=dict)

    def owned(self) -> dict[PartitionId, int]:
        return self.ledger.positions()

    def causes(self, sources: list[PartitionId]) -> str:
        return "sink 'a': refused"


class Scene:
    def __init__(self) -> None:
        self.now = 100.0
        self.ends: dict[PartitionId, int | None] = {P: 0, Q: 0}
        ledger = Ledger(1 << 20)
        ledger.open(P, {"a": 0})
        ledger.open(Q, {"a": 0})
        self.pipeline = FakePipeline(ledger, {P: 0, Q: 0}, {"a": Runner()})
        self.metrics = Metrics()
        self.watchdog = Watchdog(
            self.pipeline,  # type: ignore[arg-type]
            self.metrics,
            lambda source: self.ends[source],
            timeout=60,
            clock=lambda: self.now,
            wall=lambda: 1_000_000 + self.now,
        )

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.watchdog.look()

    def lag(self, source: PartitionId, gauge: str = "lag_rows") -> float:
        labels = {"topology": "topology", "stream": source.topic, "partition": str(source.partition)}
        found = self.metrics.registry.get_sample_value(f"streamcore_{gauge}", labels)
        assert found is not None
        return found


def test_an_idle_partition_is_no_stall() -> None:
    scene = Scene()
    for _ in range(10):
        scene.after(60)


def test_waiting_records_that_do_not_move_end_the_worker_with_the_cause() -> None:
    scene = Scene()
    scene.after(1)
    scene.ends[Q] = 5
    scene.after(59)
    with pytest.raises(Permanent, match=r"t/1 did not move for 60 s: sink 'a': refused"):
        scene.after(61)
    assert scene.watchdog.stalled is not None


def test_any_progress_starts_the_time_anew() -> None:
    scene = Scene()
    scene.ends[P] = 1_000
    for position in range(1, 10):
        scene.pipeline.processed[P] = position
        scene.after(50)


def test_what_is_read_but_held_by_a_rolling_sink_is_no_stall() -> None:
    scene = Scene()
    scene.ends[P] = scene.pipeline.processed[P] = 10
    for _ in range(5):
        scene.after(60)
    assert scene.lag(P) == 10
    assert scene.lag(P, "lag_seconds") == pytest.approx(240, abs=61)


def test_a_sink_that_hangs_in_a_call_ends_the_worker() -> None:
    scene = Scene()
    scene.pipeline.runners["a"].busy_since = scene.now
    scene.after(60)
    with pytest.raises(Permanent, match="sink 'a' did not return"):
        scene.after(1)


def test_a_partition_that_left_leaves_no_gauge() -> None:
    scene = Scene()
    scene.after(1)
    scene.pipeline.ledger.drop(Q)
    scene.after(1)
    with pytest.raises(AssertionError):
        scene.lag(Q)


def test_lag_in_seconds_is_the_age_of_the_oldest_record_that_is_not_confirmed() -> None:
    scene = Scene()
    for second in range(1, 2000):  # ten records a second, confirmed 30 seconds later
        scene.ends[P] = scene.pipeline.processed[P] = 10 * second
        scene.pipeline.ledger.confirm("a", {P: max(0, 10 * (second - 30))})
        scene.after(1)
    assert scene.lag(P, "lag_seconds") == pytest.approx(30, abs=2)


def test_the_age_of_the_commit_grows_while_only_reading_goes_on() -> None:
    scene = Scene()
    for second in range(1, 100):
        scene.ends[P] = scene.pipeline.processed[P] = 10 * second
        scene.after(1)
    assert scene.lag(P, "commit_age_seconds") == pytest.approx(99, abs=2)
    assert scene.lag(P, "lag_seconds") == pytest.approx(99, abs=2)


def test_a_recovery_is_told_of_while_it_lasts_and_named_when_nothing_moves() -> None:
    scene = Scene()
    recovery = Recovery("the state of table of t/1", 0, 5, lambda: scene.now)
    scene.pipeline.kept[Q] = FakeKept(recovery)
    scene.ends[Q] = 5
    scene.after(1)
    assert scene.lag(Q, "recovery_records_left") == 5
    assert scene.lag(P, "recovery_records_left") == 0
    recovery.moved(3, 100)
    scene.pipeline.processed[Q] = 3
    scene.after(1)
    assert scene.lag(Q, "recovery_records_left") == 2
    assert "60 % of 5 records, about 1 s left" in str(scene.watchdog.recovering)
    with pytest.raises(Permanent, match=r"refused; the state of table of t/1 is made again: 60 %"):
        scene.after(61)
    recovery.moved(5, 100)
    assert scene.watchdog.recovering is None
