"""Chunks of several partitions in one passage give what they give one by one, for every step."""

from __future__ import annotations

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.batch import Chunk, PartitionId, RecordChunk
from streamcore.joint import on_chunks
from streamcore.passage import Outcome
from streamcore.task import PartitionTask
from tests.property.test_cut_law import STEPS, Reading, rows
from tests.unit.topology.collecting import Collect

lengths = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=6)


def chunks_of(values: list[object], cuts: list[tuple[int, int, int]]) -> list[Chunk]:
    """*values* cut into chunks (partition, records, positions without a record behind them)."""
    found: list[Chunk] = []
    position = {0: 1_000, 1: 0, 2: 77}
    left = list(values)
    for partition, count, hole in cuts:
        own, left = left[:count], left[count:]
        first = position[partition]
        offsets = list(range(first, first + len(own)))
        position[partition] = end = first + len(own) + hole
        source = PartitionId("readings", partition, "id")
        found.append(
            RecordChunk(
                source,
                offsets,
                [orjson.dumps(v) if isinstance(v, dict) else v for v in own],
                first=first,
                end=end,
            )
        )
    return found


def tasks_of(step: str) -> dict[int, PartitionTask]:
    topology = sc.Topology("law")
    STEPS[step](topology.stream("readings", Reading)).to(Collect("out"))
    graph = topology.freeze()
    return {p: PartitionTask(graph, "readings", PartitionId("readings", p, "id")) for p in range(3)}


def said(outcome: Outcome) -> tuple[object, ...]:
    """Everything that an outcome says of its chunk, but for counts and times."""
    batch = outcome.writes["out"]
    assert outcome.decoded is not None
    return (
        outcome.chunk,
        outcome.records,
        batch.covered,
        batch.chunk,
        batch.frame.rows(named=True),
        outcome.rejects.frame.rows(named=True),
        outcome.decoded().rows(named=True),
    )


def total(outcomes: list[Outcome]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for outcome in outcomes:
        for key, number in outcome.counts.items():
            found[key] = found.get(key, 0) + number
    return {key: number for key, number in found.items() if number}


@pytest.mark.parametrize("step", STEPS)
@given(values=rows, cuts=lengths)
@settings(max_examples=40, deadline=None)
def test_together_is_one_by_one(step: str, values: list[object], cuts: list[tuple[int, int, int]]) -> None:
    chunks, tasks, others = chunks_of(values, cuts), tasks_of(step), tasks_of(step)
    together = on_chunks([(tasks[chunk.source.partition], chunk) for chunk in chunks])
    one_by_one = [others[chunk.source.partition].on_chunk(chunk) for chunk in chunks]
    assert [said(o) for o in together] == [said(o) for o in one_by_one]
    assert total(together) == total(one_by_one)
    assert all(o.writes["out"].frame.schema == one_by_one[0].writes["out"].frame.schema for o in together)
    assert isinstance(together[0].writes["out"].frame, pl.DataFrame)
