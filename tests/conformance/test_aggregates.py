"""The conformance suite of aggregates over some that are built in, one of one's own, and broken ones."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pytest

import streamcore as sc
from streamcore.aggregates import Aggregate, Exprs
from streamcore.aggregates.kinds import CountDistinct, End, Variance
from streamcore.aggregates.sketches import HyperLogLog, Quantile
from streamcore.errors import BadConfig
from streamcore.testing import TopologyDriver
from streamcore.testing.aggregates import AggregateConformance
from tests.unit.topology.collecting import Collect


@dataclass(frozen=True)
class Product:
    skips_nulls = True

    def partial(self, values: pl.Expr) -> Exprs:
        return (values.cast(pl.Float64).product(),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return (kept[0].product(),)

    def final(self, *kept: pl.Expr) -> pl.Expr:
        return kept[0]


class Numbers(AggregateConformance):
    def values(self, count: int) -> pl.Series:
        return pl.Series([None if i % 7 == 3 else (i * 37 % 11) / 4 + 0.5 for i in range(count)])


class TestProduct(Numbers):
    def aggregate(self) -> Aggregate:
        return Product()


class TestVariance(Numbers):
    def aggregate(self) -> Aggregate:
        return Variance(1, root=True)


class TestCountDistinct(Numbers):
    def aggregate(self) -> Aggregate:
        return CountDistinct()


class TestHyperLogLog(Numbers):
    def aggregate(self) -> Aggregate:
        return HyperLogLog(5)


class TestQuantile(Numbers):
    def aggregate(self) -> Aggregate:
        return Quantile(0.3)


class TestLast(Numbers):
    any_order = False

    def aggregate(self) -> Aggregate:
        return End(last=True)


@dataclass(frozen=True)
class MeanOfMeans(Product):
    """The mistake that all make once."""

    def partial(self, values: pl.Expr) -> Exprs:
        return (values.mean(),)

    def merge(self, *kept: pl.Expr) -> Exprs:
        return (kept[0].mean(),)


def broken(made: Aggregate) -> AggregateConformance:
    class Broken(Numbers):
        def aggregate(self) -> Aggregate:
            return made

    return Broken()


def test_a_mean_of_means_is_caught():
    with pytest.raises(AssertionError):
        broken(MeanOfMeans()).test_any_cut_and_any_tree_of_merges_gives_the_same()


def test_an_order_that_matters_is_caught():
    with pytest.raises(AssertionError):
        broken(End(last=True)).test_any_order_gives_the_same_if_it_says_so()


def test_windows_and_tables_know_ones_own_aggregates():
    topology = sc.Topology("t", aggregates={"product": lambda dtype, constants: Product()})
    rows = topology.stream("s", {"k": "string", "t": "int64", "v": "float64"}, event_time="t")
    text = "product(v) filter (where v > 0) + 1"
    rows.window(sc.tumbling("10ms")).by("k").aggregate(p=text).to(Collect("windows"))
    rows.by("k").aggregate(p=text).changelog().to(Collect("table"))
    driver = TopologyDriver(topology)
    driver.push("s", [{"k": "a", "t": t, "v": v} for t, v in ((1, 2.0), (2, -1.0), (3, 4.0), (30, 0.0))])
    assert driver.rows("windows")[0]["p"] == 9.0
    assert driver.rows("table")[-1]["p"] == 9.0


@pytest.mark.parametrize(("name", "message"), [("sum", "built in"), ("My Sum", "can't be the name")])
def test_names_that_ones_own_can_not_have(name, message):
    with pytest.raises(BadConfig, match=message):
        sc.Topology("t", aggregates={name: lambda dtype, constants: Product()})
