"""Who is told that a partition is idle, and when the clock closes windows; the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamcore as sc
from streamcore.batch import PartitionId
from streamcore.event_time import BEGINNING
from streamcore.runtime.idleness import Idleness
from tests.unit.topology.collecting import Collect

P0 = PartitionId("clicks", 0, "id")
SECOND = 1_000_000


class Click(sc.Event):
    user: str
    at: int


@dataclass
class Told:
    """What Idleness needs of a pipeline."""

    watermark: int = BEGINNING
    processed: dict[PartitionId, int] = field(default_factory=lambda: {P0: 5})
    told: list[tuple[int, bool]] = field(default_factory=list)

    @property
    def watermarks(self) -> dict[PartitionId, int]:
        return {P0: self.watermark}

    def tell_watermark(self, source: PartitionId, watermark: int, *, idle: bool = False) -> None:
        assert source == P0
        self.told.append((watermark, idle))
        self.watermark = watermark


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def looking(pipeline: Told, clock: Clock, end: int | None = 5, **times: str) -> Idleness:
    topology = sc.Topology("t")
    clicks = topology.stream("clicks", Click, event_time="at", **times)  # type: ignore[arg-type]
    clicks.window(sc.tumbling("1s")).by("user").aggregate(n="count(*)").to(Collect("s"))
    graph = topology.freeze()
    return Idleness(graph, pipeline, {"clicks": "clicks"}, lambda _: end, clock)  # type: ignore[arg-type]


def test_a_partition_is_idle_once_it_stood_at_its_end_for_a_while_and_is_told_once():
    pipeline, clock = Told(watermark=7), Clock()
    idleness = looking(pipeline, clock, idle_after="10s")
    for clock.now in (100.0, 105.0, 109.9):
        idleness.look()
    assert pipeline.told == []
    for clock.now in (110.0, 150.0):
        idleness.look()
    assert pipeline.told == [(7, True)]


def test_rows_that_come_start_the_wait_anew():
    pipeline, clock = Told(), Clock()
    idleness = looking(pipeline, clock, idle_after="10s")
    idleness.look()
    clock.now, pipeline.processed[P0] = 109.0, 6
    idleness.look()
    clock.now = 112.0
    idleness.look()
    assert pipeline.told == []


def test_a_partition_that_lags_or_whose_end_is_unknown_is_not_idle():
    for end in (6, None):
        pipeline, clock = Told(), Clock()
        idleness = looking(pipeline, clock, end, idle_after="10s")
        for clock.now in (100.0, 200.0):
            idleness.look()
        assert pipeline.told == []


def test_the_clock_goes_on_where_the_event_time_stopped_when_that_is_asked_for():
    pipeline, clock = Told(watermark=50 * SECOND), Clock()
    idleness = looking(pipeline, clock, idle_after="10s", close_after="20s")
    told = []
    for clock.now in (100.0, 110.0, 120.0, 121.0, 125.0):
        idleness.look()
        told.append(list(pipeline.told))
    assert told[:2] == [[], [(50 * SECOND, True)]]
    assert told[2][-1] == (70 * SECOND, True)
    assert told[3] == told[2]  # not at every look
    assert told[4][-1] == (75 * SECOND, True)


def test_a_partition_without_any_time_has_no_clock():
    pipeline, clock = Told(), Clock()
    idleness = looking(pipeline, clock, idle_after="10s", close_after="20s")
    for clock.now in (100.0, 130.0, 140.0):
        idleness.look()
    assert pipeline.told == [(BEGINNING, True)]


def test_in_processing_time_the_clock_is_told_after_seconds():
    pipeline, clock = Told(watermark=50 * SECOND), Clock()
    topology = sc.Topology("t")
    clicks = topology.stream("clicks", {"user": "string"}, event_time=sc.PROCESSING_TIME)
    clicks.window(sc.tumbling("1s")).by("user").aggregate(n="count(*)").to(Collect("s"))
    idleness = Idleness(topology.freeze(), pipeline, {"clicks": "clicks"}, lambda _: 5, clock)  # type: ignore[arg-type]
    for clock.now in (100.0, 104.0, 106.0, 106.5, 108.0):
        idleness.look()
    assert pipeline.told == [(56 * SECOND, True), (58 * SECOND, True)]
