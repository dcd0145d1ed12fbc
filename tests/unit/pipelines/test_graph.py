"""The order of tasks, and cycles."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.errors import BadConfig
from streamcore.pipelines.checks import check
from streamcore.pipelines.graph import cycle_in, graph_of
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from tests.unit.pipelines.test_yaml import KINDS


def tasks(**needs: str) -> list[TaskConfig]:
    return [
        TaskConfig(task_id=name, task_type=TaskType.EMPTY, depends_on=list(text))
        for name, text in needs.items()
    ]


def test_tasks_stand_behind_what_they_need_and_otherwise_as_written() -> None:
    graph = graph_of(tasks(d="bc", b="a", c="a", a="", e=""))
    assert graph.order == ("a", "e", "b", "c", "d")
    assert graph.feeds["a"] == ("b", "c")
    assert list(graph.levels()) == [("a", "e"), ("b", "c"), ("d",)]


def test_a_dependency_named_twice_counts_once() -> None:
    assert graph_of(tasks(a="", b="aa")).order == ("a", "b")


def test_a_cycle_is_shown() -> None:
    with pytest.raises(BadConfig, match=r"task 'a': depends_on.* a -> c -> b -> a"):
        check(PipelineConfig(pipeline_id="p", tasks=tasks(x="", a="xc", b="a", c="b")), KINDS)


def test_a_long_chain_is_no_deep_recursion() -> None:
    needs = {str(n): [str(n + 1)] for n in range(5000)}
    assert cycle_in(needs) == ()
    needs["4999"] = ["0"]
    assert len(cycle_in(needs)) == 5001


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 7), st.sets(st.integers(0, 7), max_size=3), max_size=8))
def test_there_is_a_cycle_or_an_order(edges: dict[int, set[int]]) -> None:
    needs = {str(n): [str(m) for m in sorted(to) if m in edges] for n, to in edges.items()}
    cycle = cycle_in(needs)
    order = graph_of([TaskConfig(task_id=name, depends_on=before) for name, before in needs.items()]).order
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(after in needs[before] for before, after in pairwise(cycle))
        assert len(order) < len(needs)
    else:
        assert sorted(order) == sorted(needs)
        assert all(order.index(m) < order.index(n) for n, before in needs.items() for m in before)
