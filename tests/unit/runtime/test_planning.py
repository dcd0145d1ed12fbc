"""A replay is checked before a row is read, and is known again by its name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

import streamcore as sc
from batch_adapters.catalogue import open_source
from streamcore.contracts import BoundedSource
from streamcore.errors import BadConfig
from streamcore.graph import Graph
from streamcore.runtime.pacing import PacedSplit, Pacer
from streamcore.runtime.planning import plan
from tests.unit.topology.collecting import Collect


class Row(sc.Event):
    id: int
    at: dt.datetime


def graph(event_time: str | None = None) -> Graph:
    topology = sc.Topology("t")
    topology.stream("rows", Row, event_time=event_time).to(Collect("out"))
    return topology.freeze()


@pytest.fixture
def source(tmp_path: Path) -> BoundedSource:
    file = tmp_path / "rows.csv"
    file.write_text("id,at\n" + "1,2020-01-01T00:00:00\n" * 100)
    return open_source(file, min_split_bytes=500)


def name(source: BoundedSource, **how: object) -> str:
    return plan(graph("at"), {"rows": source}, **{"splits": 2, **how})["rows"].name  # type: ignore[arg-type]


def test_the_name_tells_what_is_read_and_how_it_is_cut(source: BoundedSource) -> None:
    ways: list[dict[str, object]] = [
        {},
        {"splits": 3},
        {"limit": 5},
        {"limit": 6},
        {"pacer": Pacer(1)},
        {"into": "topic"},
        {"into": "isolated"},
    ]
    assert len({name(source, **way) for way in ways}) == len(ways)
    assert name(source) == name(source)
    assert name(source, pacer=Pacer(1)) == name(source, pacer=Pacer(2)), "the speed may change in between"


def test_limits_and_pacing_read_in_the_sources_order(source: BoundedSource) -> None:
    assert len(plan(graph(), {"rows": source}, splits=2)["rows"].splits) == 2
    (paced,) = plan(graph("at"), {"rows": source}, splits=2, pacer=Pacer(1))["rows"].splits
    assert isinstance(paced, PacedSplit)


def test_pacing_needs_event_times(source: BoundedSource) -> None:
    with pytest.raises(BadConfig, match=r"no event time.*event_time="):
        plan(graph(), {"rows": source}, splits=2, pacer=Pacer(1))


def test_unknown_streams_are_refused(source: BoundedSource) -> None:
    with pytest.raises(BadConfig, match="did you mean 'rows'"):
        plan(graph(), {"row": source}, splits=2)


def test_missing_columns_are_refused_before_a_row_is_read(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1]}).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(BadConfig, match="no column 'at'"):
        plan(graph(), {"rows": open_source(tmp_path / "rows.parquet")}, splits=2)
