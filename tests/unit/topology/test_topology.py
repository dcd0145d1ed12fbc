"""The declaration: what it checks, and that errors name the user's line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import streamcore as sc
from streamcore.errors import BadConfig
from tests.unit.topology.collecting import Collect


class User(sc.Event):
    user_id: int
    age: int
    email: str | None = None


def users() -> tuple[sc.Topology, sc.Stream]:
    topology = sc.Topology("people")
    return topology, topology.stream("users", User, key="user_id")


def test_the_graph_prints_as_text_and_mermaid() -> None:
    topology, stream = users()
    parts = stream.add_column("old", "age > 60").branch(adults="age >= 18")
    parts["adults"].select("user_id").to(Collect("grown"))
    parts["otherwise"].drop("old").to(Collect("rest"))
    assert topology.text().splitlines() == [
        "topology people",
        "  stream users (user_id, age, email)",
        "    add_column old",
        "      filter (age >= 18)",
        "        select user_id",
        "          sink grown: Collect",
        "      filter not coalesce((age >= 18), false)",
        "        drop old",
        "          sink rest: Collect",
    ]
    assert topology.mermaid().startswith('flowchart LR\n  n0(["stream users')
    assert topology.mermaid().count("-->") == 7


def test_columns_are_known_at_every_step() -> None:
    _, stream = users()
    after = stream.rename({"age": "years"}).cast_type({"years": "float64"}).add_column("x", "years / 2")
    assert dict(after.columns) == {
        "user_id": pl.Int64,
        "years": pl.Float64,
        "email": pl.String,
        "x": pl.Float64,
    }


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (lambda s: s.filter("aeg > 1"), "did you mean 'age'?"),
        (lambda s: s.rename({"nope": "x"}), "unknown column in rename"),
        (lambda s: s.rename({"age": "email"}), "two columns the same name"),
        (lambda s: s.add_column("_offset", "1"), "can't be a column's name"),
        (lambda s: s.cast_type({"age": "int46"}), "int64"),
        (lambda s: s.select(), "one or more different columns"),
        (lambda s: s.drop("user_id", "age", "email"), "leaves no column"),
        (lambda s: s.union(s.drop("email")), "other columns"),
        (lambda s: s.to("out.csv"), "takes a sink"),
        (lambda s: s.to(Collect("a\nb")), "name of a sink"),
    ],
)
def test_mistakes_name_the_line_of_the_users_module(wrong: object, part: str) -> None:
    _, stream = users()
    with pytest.raises(BadConfig) as caught:
        wrong(stream)  # type: ignore[operator]
    assert part in str(caught.value)
    assert caught.value.where is not None
    assert Path(caught.value.where.rpartition(":")[0]) == Path(__file__)


def test_a_stream_without_a_sink_is_refused() -> None:
    topology, stream = users()
    stream.filter("age > 1")
    with pytest.raises(BadConfig, match="leads to no sink"):
        topology.freeze()


def test_a_sink_that_feeds_its_own_source_is_a_cycle() -> None:
    topology, stream = users()
    stream.to(Collect("loop", own_topic="users"))
    with pytest.raises(BadConfig, match="cycle"):
        topology.freeze()


def test_two_sinks_of_one_name_are_refused() -> None:
    _, stream = users()
    stream.to(Collect("a"))
    with pytest.raises(BadConfig, match="same name"):
        stream.filter("age > 1").to(Collect("a"))


def test_durations_and_keys_are_checked() -> None:
    topology = sc.Topology("t")
    with pytest.raises(BadConfig, match="no duration"):
        topology.stream("a", User, max_lateness="1 fortnight")
    with pytest.raises(BadConfig, match="unknown column in stream"):
        topology.stream("b", User, key="uid")
    with pytest.raises(BadConfig, match="must be a time"):
        topology.stream("c", User, event_time="email")
