"""The cut law: cutting the stream into other batches changes nothing in what comes out, for every step."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.testing.driver import TopologyDriver
from tests.unit.topology.collecting import Collect


class Reading(sc.Event):
    id: int
    value: float | None = None
    label: str | None = None


def doubled(row: dict[str, object]) -> dict[str, object]:
    if row["label"] == "bad":
        raise ValueError("bad")
    return {**row, "id": int(str(row["id"])) * 2}


def repeated(row: dict[str, object]) -> list[dict[str, object]]:
    return [row] * (int(str(row["id"])) % 3)


def flagged(frame: pl.DataFrame) -> pl.DataFrame:
    if (frame["id"] == 13).any():
        raise RuntimeError("13")
    return frame.with_columns(pl.col("value").fill_null(0.0))


STEPS = {
    "filter": lambda s: s.filter("value > 0 or label = 'a'"),
    "failing cast": lambda s: s.filter("cast(label as int) >= 0"),
    "add_column": lambda s: s.add_column("y", "case when value < 1 then 'low' else label end"),
    "rename": lambda s: s.rename({"label": "name"}),
    "cast_type": lambda s: s.cast_type({"label": "int64", "value": "string"}),
    "select": lambda s: s.select("label", "id"),
    "drop": lambda s: s.drop("value"),
    "map_batches": lambda s: s.map_batches(flagged),
    "map": lambda s: s.map(doubled),
    "flat_map": lambda s: s.flat_map(repeated),
    "flat_map twice": lambda s: s.flat_map(repeated).flat_map(repeated),
    "validate": lambda s: s.validate(
        sc.rules.range("value", min=-1, max=2),
        sc.rules.not_null("label", severity="warning"),
        sc.rules.in_set("label", ["a", "bad", "7"], on_fail="drop"),
    ),
    "branch and union": lambda s: s.branch(low="id < 5")["low"].union(s.filter("id < 7")),
    "flat_map and overlapping union": lambda s: s.flat_map(repeated).union(s.filter("id > 3")),
}

rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 15),
            "value": st.none() | st.floats(-3, 3),
            "label": st.sampled_from(["a", "bad", "7", "x", None]),
        }
    )
    | st.sampled_from([b"{", b'{"id": "x"}', b"", None]),
    max_size=25,
)


def outcome(step: str, values: list[object], cuts: set[int]) -> tuple[object, ...]:
    topology = sc.Topology("law")
    STEPS[step](topology.stream("readings", Reading)).to(Collect("out"))
    driver = TopologyDriver(topology)
    pushed: list[object] = []
    for place, value in enumerate(values):
        if place in cuts:
            pushed.append(driver.CUT)
        pushed.append(value)
    driver.push("readings", pushed)  # type: ignore[arg-type]
    letters = sorted((d.stage, d.offset, d.sub, d.code) for d in driver.dead_letters)
    return driver.rows("out"), letters, driver.counts


@pytest.mark.parametrize("step", STEPS)
@given(values=rows, cuts=st.sets(st.integers(0, 24)))
@settings(max_examples=60, deadline=None)
def test_cuts_change_nothing(step: str, values: list[object], cuts: set[int]) -> None:
    assert outcome(step, values, cuts) == outcome(step, values, set())


@given(values=rows, cuts=st.sets(st.integers(0, 24)))
@settings(max_examples=60, deadline=None)
def test_every_record_ends_in_the_sink_or_the_dead_letters(values: list[object], cuts: set[int]) -> None:
    written, letters, _ = outcome("rename", values, cuts)
    assert len(written) + len(letters) == len(values)  # type: ignore[arg-type]
